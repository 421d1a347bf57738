"""The table of the quickstart, without a quickstart."""

import pytest


def test_a_folder_without_metrics(run_tool, tmp_path):
    with pytest.raises(SystemExit, match='untrained holds no metrics; run tools/quickstart.sh'):
        run_tool('misc/quickstart_table.py', tmp_path)
