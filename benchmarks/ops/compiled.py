"""Finds a compiled ``mmcv._ext`` to compare with, without installing one."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

from mmpvg.ops.state import COMPILED, find_operators

ROOT = Path(__file__).resolve().parents[2]


def load_compiled(folder):
    """The module and where it is from; (None, why not) without one.

    It is the environment's own, or that of a ready wheel for this Python and this mmcv, in a folder
    that PIP_FIND_LINKS names.

    Args:
        folder: Where the wheel's module is unpacked.
    """
    import torch  # noqa: F401  its libraries are the module's

    own = find_operators()
    if own.kind == COMPILED:
        return _load(own.path)
    folders = os.environ.get('PIP_FIND_LINKS', '').split()
    for wheels in map(Path, folders):
        for wheel in sorted(wheels.glob('*.whl')) if wheels.is_dir() else ():
            if _fits(wheel.name):
                path = _unpack(wheel, folder)
                return _load(path) if _works(path) else (None, f'{wheel} is for another torch')
    return None, f'no compiled mmcv: not in the environment, and no wheel of it in {folders}'


def _fits(name):
    from packaging.tags import sys_tags
    from packaging.utils import parse_wheel_filename

    project, version, _, tags = parse_wheel_filename(name)
    try:
        installed = metadata.version(project)
    except metadata.PackageNotFoundError:
        return False
    return (
        project in ('mmcv', 'onedl-mmcv') and str(version) == installed and tags & set(sys_tags())
    )


def _unpack(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith('mmcv/_ext.'):
                return Path(archive.extract(name, folder))
    raise AssertionError(f'{wheel} holds no mmcv/_ext')


def _works(path):
    """Tried in a process of its own: what was built for another torch may end it."""
    code = (
        'import sys, torch; from benchmarks.ops.compiled import _load; '
        'ext, _ = _load(sys.argv[1]); boxes = torch.eye(4)[:2]; '
        'assert len(ext.nms(boxes, torch.ones(2), iou_threshold=0.5, offset=0))'
    )
    done = subprocess.run([sys.executable, '-c', code, str(path)], cwd=ROOT, capture_output=True)
    return done.returncode == 0


def _load(path):
    # A compiled module can be loaded under the name that it was built with alone.
    spec = importlib.util.spec_from_file_location('_ext', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, str(path)
