"""Run a script of timm with these models registered: ``python -m mmpvg.timm_models SCRIPT ...``."""

import runpy
import sys
from pathlib import Path

import mmpvg.timm_models  # noqa: F401

if __name__ == '__main__':
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        sys.exit('usage: python -m mmpvg.timm_models SCRIPT.py ARGUMENTS, where SCRIPT.py exists')
    sys.argv = sys.argv[1:]
    # As `python SCRIPT.py` does, for the script's own imports.
    sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
    runpy.run_path(sys.argv[0], run_name='__main__')
