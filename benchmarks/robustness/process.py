"""Several processes against one, and FSDP against DistributedDataParallel, on the CPU.

    python tools/make_sample_dataset.py
    python tools/make_digits_dataset.py
    python -m benchmarks.robustness.process

Two tables are printed; the exit status is 1 if a difference is above the tolerance.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.launcher import CONFIGS

from .process_study import gradients_of_processes, largest_difference, run_fsdp_study

PARTS = ('gradients', 'fsdp')
# Float32 sums in another order.
TOLERANCE = 1e-5
# AdamW moves a weight by the learning rate, here up to 1.5e-4, however small its gradient is.
WEIGHT_TOLERANCE = 1e-4
GRADIENTS = {
    'segmentation': ('upernet_vit_mpvg_sample.py', 'sample'),
    'detection': ('mask_rcnn_vit_mpvg_sample.py', 'sample'),
    'classification': ('classifier_vit_mpvg-ggem_sample.py', 'digits'),
}
# Of each process; the last ones of another number each.
SHARDS = ((2, 2), (1, 1, 1, 1), (3, 1), (4, 2, 1, 1))
COMMON = (
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'model.backbone.drop_path_rate=0.2',
    'optim_wrapper.clip_grad.max_norm=0.5',
    'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.interval=4',
    'default_hooks.checkpoint.save_best=None',
)
FSDP = {
    'segmentation': (
        'upernet_vit_mpvg_sample.py',
        # Batch norm would have running statistics of each process.
        [
            f'model.{part}.norm_cfg.{setting}'
            for part in ('neck', 'decode_head', 'auxiliary_head')
            for setting in ('type=GN', 'num_groups=8')
        ]
        + ['train_cfg.max_iters=8', 'train_cfg.val_interval=8'],
    ),
    'detection': (
        'mask_rcnn_vit_mpvg_sample.py',
        ['train_cfg.max_epochs=1', 'train_dataloader.num_batch_per_epoch=8'],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS)
    parser.add_argument('--data', type=Path, default='data', help='folder of sample and digits')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/process_study'))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    wrong = 0
    if 'gradients' in args.parts:
        wrong += compare_gradients(args.data, args.out)
    if 'fsdp' in args.parts:
        wrong += compare_fsdp(args.out)
    sys.exit(1 if wrong else 0)


def compare_gradients(data: Path, out: Path) -> int:
    """Print the first table; return how many differences are too large."""
    rows, wrong = [], 0
    for task, (config, folder) in GRADIENTS.items():
        for images in SHARDS:
            print(f'{task}: gradients of {len(images)} processes', flush=True)
            found = gradients_of_processes(
                CONFIGS / config, data / folder, images, out / 'gradients.pt'
            )
            differences = {
                'the mean of its shards': largest_difference(found['ddp'], found['shards'])
            }
            equal = len(set(images)) == 1
            if equal and task == 'detection':
                differences['the joined batch, backbone and neck'] = largest_difference(
                    *found['features']
                )
            elif equal:
                differences['the joined batch'] = largest_difference(found['ddp'], found['joined'])
                loss = sum(found['losses']) / len(images) / found['joined_loss'] - 1
                differences['the joined batch, its loss'] = abs(float(loss))
            for what, difference in differences.items():
                rows.append(_row(task, images, what, difference))
                wrong += difference > TOLERANCE
    print('\n| task | images of the processes | one process on | largest difference |')
    print('\n'.join(['|---|---|---|---|', *rows]), end='\n\n', flush=True)
    return wrong


def compare_fsdp(out: Path) -> int:
    """Print the second table; return how many tasks differ too much."""
    rows, wrong = [], 0
    for task, (config, options) in FSDP.items():
        print(f'{task}: with FSDP and without', flush=True)
        result = run_fsdp_study(CONFIGS / config, [*COMMON, *options], out / task)
        rows.append(
            f'| {task} | {result.weights:.1e} | {result.resumed:.1e} | '
            f'{result.resumed_whole:.1e} | {result.equal_metrics} of {result.metrics} |'
        )
        differences = (result.weights, result.resumed, result.resumed_whole)
        wrong += max(differences) > WEIGHT_TOLERANCE or result.equal_metrics < result.metrics
    print(
        '\n| task, 8 iterations | weights | resumed with FSDP | resumed without | '
        'metrics of `tools/test.py` on one device |\n|---|---|---|---|---|'
    )
    print('\n'.join(rows), flush=True)
    return wrong


def _row(task: str, images: tuple, what: str, difference: float) -> str:
    return f'| {task} | {" + ".join(map(str, images))} | {what} | {difference:.1e} |'


if __name__ == '__main__':
    main()
