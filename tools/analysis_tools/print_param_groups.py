"""Print which parameters a config trains, how fast and with which weight decay.

    python tools/analysis_tools/print_param_groups.py configs/upernet_vit_mpvg.py

Fails if a parameter is in no group of the optimizer, or in several.
"""

import argparse
import sys

from mmengine.config import DictAction
from mmengine.optim import build_optim_wrapper

from mmpvg.engine.config.config_model import build_config_model
from mmpvg.engine.optimizers.param_groups import format_param_groups, param_group_rows
from mmpvg.utils.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--show-all', action='store_true', help='a line for every parameter')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE')
    args = parser.parse_args()
    cfg, model = build_config_model(args.config, args.cfg_options)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    try:
        rows = param_group_rows(model, optimizer)
    except UserError as error:
        sys.exit(str(error))

    print(format_param_groups(rows, optimizer.defaults['lr']))
    if args.show_all:
        for row in rows:
            for name in row.names:
                print(f'depth {row.depth}  lr {row.lr}  weight decay {row.weight_decay}  {name}')
    tensors, values = sum(len(row.names) for row in rows), sum(row.values for row in rows)
    print(f'\n{tensors} parameters with {values:,} values, each in exactly one group or frozen')


if __name__ == '__main__':
    main()
