"""Which of upstream's configs need operators that the compiler-free ones lack.

    python -m benchmarks.ops.upstream

Reads every config that mmdet, mmseg and mmpretrain install. Prints a Markdown table.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# ``type`` of a config -> what it needs that is not there. Types that nothing of upstream uses are
# not named; all modules of mmcv.ops are in docs/operators.md.
LACKING = {
    'carafe': 'carafe_*',
    'CARAFEPack': 'carafe_*',
    'FPN_CARAFE': 'carafe_*',
    'GARetinaHead': 'masked_im2col_forward, masked_col2im_forward',
    'GARPNHead': 'masked_im2col_forward, masked_col2im_forward',
    'ScoreHLRSampler': 'nms_match',
    'CLRHead': 'line_nms_forward',
    'DeformRoIPoolPack': 'deform_roi_pool_*',
    'ModulatedDeformRoIPoolPack': 'deform_roi_pool_*',
    'RoIPool': 'roi_pool_*',
    'MMSyncBN': 'sync_bn_*',
    'PSAHead': 'psamask_*',
}


def main() -> None:
    warnings.simplefilter('ignore')
    print('| Package | Configs read | Affected | Family | Operators |')
    print('|---|---|---|---|---|')
    for package in ('mmdet', 'mmseg', 'mmpretrain'):
        read, affected = 0, defaultdict(set)
        families = defaultdict(set)
        for path, types in config_types(package):
            read += 1
            for name in types & set(LACKING):
                affected[path.parts[0]].add(path)
                families[path.parts[0]].add(LACKING[name])
        total = sum(map(len, affected.values()))
        names = sorted(affected) or ['none']
        for family in names:
            operators = ', '.join(sorted(families[family]))
            mine = f'{len(affected[family])} of {family}' if affected else 'none'
            print(f'| {package} | {read} | {total} | {mine} | {operators} |', flush=True)


def config_types(package: str) -> Iterator[tuple[Path, set[str]]]:
    """Path and all ``type`` values of each config that can be read."""
    from mmengine.config import Config

    root = Path(find_spec(package).submodule_search_locations[0]) / '.mim' / 'configs'
    for path in sorted(root.rglob('*.py')):
        if '_base_' in path.parts:
            continue
        try:
            cfg = Config.fromfile(path)
        except Exception:  # a config whose base is not installed, or of the other config style
            continue
        yield path.relative_to(root), set(types_of(cfg.to_dict()))


def types_of(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        kind = node.get('type')
        if kind is not None:
            name = kind if isinstance(kind, str) else getattr(kind, '__name__', str(kind))
            yield name.rpartition('.')[2]
        for value in node.values():
            yield from types_of(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from types_of(value)


if __name__ == '__main__':
    main()
