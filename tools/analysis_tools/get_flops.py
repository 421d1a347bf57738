"""Count parameters and multiply-adds of a config's model on one image, part by part.

    python tools/analysis_tools/get_flops.py configs/mask_rcnn_vit_mpvg.py --shape 800 1280

Multiply-adds of matrix products and convolutions, which papers call FLOPs. Attention is counted
whatever kernel it runs on, windows as the windows they are. A detector's heads get 1000 boxes and
100 masks, as with mmdet's own script; auxiliary heads and post-processing are left out.
"""

import argparse
import logging

from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from mmpvg.analysis import part_costs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--shape', nargs=2, type=int, required=True, metavar=('H', 'W'))
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE')
    args = parser.parse_args()
    MMLogger.get_instance('mmengine', log_level=logging.ERROR)

    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    costs = part_costs(model, tuple(args.shape))

    print(f'{args.config}, one image of {args.shape[0]}x{args.shape[1]}')
    print('| part | parameters (M) | multiply-adds (G) |')
    print('|---|---|---|')
    for cost in costs:
        print(f'| {cost.name} | {cost.parameters / 1e6:.2f} | {cost.macs / 1e9:.2f} |')
    parameters = sum(cost.parameters for cost in costs)
    macs = sum(cost.macs for cost in costs)
    print(f'| **all of it** | {parameters / 1e6:.2f} | {macs / 1e9:.2f} |')
    if left := sum(p.numel() for p in model.parameters()) - parameters:
        print(f'\n{left / 1e6:.2f} M more parameters serve training alone')


if __name__ == '__main__':
    main()
