"""Modules do not import one another in a circle, and load no more than they need."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest


def imported(file, name, known):
    """Modules of mmpvg that a file imports when it is loaded."""
    package = name.split('.') if file.name == '__init__.py' else name.split('.')[:-1]
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = '.'.join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f'{source}.{alias.name}'
                yield inner if inner in known else source


def test_no_import_circle(repo):
    files = {
        '.'.join(path.relative_to(repo).with_suffix('').parts).removesuffix('.__init__'): path
        for path in (repo / 'mmpvg').rglob('*.py')
        if '.mim' not in path.parts
    }
    graph = {
        name: {other for other in imported(path, name, files) if other in files and other != name}
        for name, path in files.items()
    }
    assert sum(map(len, graph.values())) > 200
    # Raises CycleError with the circle.
    TopologicalSorter(graph).prepare()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('module', 'expected'),
    [
        ('counterbalance', {'inspection', 'counterbalance'}),
        ('flops', {'flops'}),
        ('gaussian_fit', {'gaussian_fit'}),
        ('plots', {'plots'}),
    ],
)
def test_an_analysis_loads_no_other(module, expected):
    code = f'import sys, mmpvg.analysis.{module}; print(*sys.modules)'
    loaded = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    ).stdout.split()
    prefix = 'mmpvg.analysis.'
    assert {name[len(prefix) :] for name in loaded if name.startswith(prefix)} == expected
    assert not {name for name in loaded if name.startswith(('mmpvg.apis', 'mmpvg.comparison'))}
