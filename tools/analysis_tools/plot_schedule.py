r"""Plot the learning rates that configs give, of every parameter group.

    python tools/analysis_tools/plot_schedule.py configs/mask_rcnn_vit_mpvg.py \
        configs/upernet_vit_mpvg.py --num-images 117266 --out schedules.png

The groups are those of the config's own model and optimizer, the rates those of mmengine's
schedulers at the recipe's total batch. --num-images is for trainings that count epochs; COCO
train2017 has 117266 images with objects, ImageNet-1K 1281167.
"""

import argparse
from pathlib import Path

from mmengine.optim import build_optim_wrapper

from mmpvg.engine.config.config_model import build_config_model
from mmpvg.logs.plots import draw_schedules
from mmpvg.logs.schedule import learning_rate_curve
from mmpvg.utils.command_line import user_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', help='config files')
    parser.add_argument('--num-images', type=int, help='images of the training set')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/schedules.png'))
    args = parser.parse_args()

    curves = {}
    for config in args.configs:
        with user_errors(parser):
            cfg, model = build_config_model(config)
            groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
            initial = sorted({group['lr'] for group in groups}, reverse=True)
            curve = learning_rate_curve(cfg, initial, args.num_images)
        curves[Path(config).stem] = curve
        batch = cfg.auto_scale_lr.base_batch_size
        print(f'{config}: {curve.total} iterations, total batch {batch}')
        for place in (0, len(curve.rates) // 2, -1):
            rates = curve.rates[place]
            print(f'  iteration {curve.iterations[place]}: {max(rates):.3g} to {min(rates):.3g}')
    print('wrote', draw_schedules(curves, args.out))


if __name__ == '__main__':
    main()
