"""Print what ``tools/quickstart.sh`` reached, as a table: ``quickstart_table.py FOLDER``."""

import json
import sys
from pathlib import Path

TASKS = {
    'upernet': {'mIoU': 'mIoU', 'aAcc': 'pixel accuracy'},
    'mask_rcnn': {'coco/bbox_mAP_50': 'box AP50', 'coco/segm_mAP_50': 'mask AP50'},
}


def metrics(folder: Path) -> dict:
    """The metrics of the latest test run below a work dir."""
    files = sorted(folder.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    if not files:
        sys.exit(f'{folder} holds no metrics; run tools/quickstart.sh, which calls this script')
    file = files[-1]
    return json.loads(file.read_text())


def main(folder: Path) -> None:
    print('| model | metric | untrained | trained |')
    print('|---|---|---|---|')
    for task, names in TASKS.items():
        before, after = (metrics(folder / task / state) for state in ('untrained', 'trained'))
        # mmseg counts in percent, COCO's evaluation in fractions.
        scale = 0.01 if task == 'upernet' else 1.0
        for key, name in names.items():
            print(f'| {task} | {name} | {before[key] * scale:.3f} | {after[key] * scale:.3f} |')
    print()
    for task in TASKS:
        seconds = int((folder / task / '.done').read_text())
        took = f'{seconds // 60}m{seconds % 60:02d}s'
        print(f'{task}: {took} with both tests, in the run that finished it')
        print(f'  predictions beside ground truth: {(folder / task).with_suffix(".png")}')
        checkpoint = Path((folder / task / 'last_checkpoint').read_text())
        print(f'  checkpoint: {checkpoint}')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
