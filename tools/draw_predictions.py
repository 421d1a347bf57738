"""Draw predictions beside ground truth: ``draw_predictions.py CONFIG CHECKPOINT OUT``."""

import argparse

from mmengine.config import DictAction

from mmpvg.apis.prediction_sheet import draw_prediction_sheet
from mmpvg.engine.config.config_model import read_config
from mmpvg.utils.command_line import user_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', help='PNG to write')
    parser.add_argument('--num-images', type=int, default=8, help='images of the test set')
    parser.add_argument('--columns', type=int, default=2, help='cells in a row')
    parser.add_argument('--score-thr', type=float, default=0.5, help='least score of a detection')
    parser.add_argument('--scale', type=int, default=3, help='how much images are enlarged')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE')
    args = vars(parser.parse_args())
    options = args.pop('cfg_options')
    with user_errors(parser):
        cfg = read_config(args['config'])
        cfg.merge_from_dict(options or {})
        picture = draw_prediction_sheet(**{**args, 'config': cfg})
    print('wrote', picture)


if __name__ == '__main__':
    main()
