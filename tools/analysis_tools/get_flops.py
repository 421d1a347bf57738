"""Count parameters and multiply-adds of a config's model on one image, part by part.

    python tools/analysis_tools/get_flops.py configs/mask_rcnn_vit_mpvg.py --shape 800 1280

Multiply-adds of matrix products and convolutions, which papers call FLOPs. Attention is counted
whatever kernel it runs on, windows as the windows they are, deformable attention with its sampling.
A detector's heads get 1000 boxes and 100 masks, as with mmdet's own script; auxiliary heads and
post-processing are left out.
"""

import argparse

from mmengine.config import DictAction
from mmengine.model import revert_sync_batchnorm

from mmpvg.analysis.flops import part_costs
from mmpvg.engine.config.config_model import build_config_model
from mmpvg.utils.command_line import user_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--shape', nargs=2, type=int, required=True, metavar=('H', 'W'))
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE')
    args = parser.parse_args()
    with user_errors(parser):
        _, model = build_config_model(args.config, args.cfg_options)
    model = revert_sync_batchnorm(model)
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
