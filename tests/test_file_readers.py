"""Nothing in the project reads files in a way that runs code, but the one place that may."""

import ast
from pathlib import Path

import pytest

# Where each may stand.
READERS = {
    'torch.load': 'mmpvg/checkpoints/safe_load.py',
    'np.load': 'mmpvg/checkpoints/augreg.py',
}
# Writes predictions as upstream does, and reads its own temporary file, which has no name.
OWN_FILES = {'mmpvg/apis/streamed_results.py': {'pickle'}}
FORBIDDEN = set(
    """
    torch.jit.load torch.hub.load torch.hub.load_state_dict_from_url torch.serialization.load
    numpy.load yaml.load yaml.load_all yaml.full_load yaml.unsafe_load yaml.Loader
    pickle eval exec __import__ dill shelve marshal joblib cloudpickle
    mmengine.load mmengine.fileio.load Config.fromstring CheckpointLoader.load_checkpoint
    mmengine.runner.load_checkpoint mmengine.runner.checkpoint.load_checkpoint
    mmengine.runner.checkpoint._load_checkpoint
    """.split()
)


def readers_in(source):
    """What a program could read files with that run code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f'{node.module}.{alias.name}' for alias in node.names] + [node.module or '']
        elif isinstance(node, (ast.Attribute, ast.Name)):
            names = [ast.unparse(node)]
        else:
            continue
        yield from (name for name in names if name in FORBIDDEN or name in READERS)
        if isinstance(node, ast.ImportFrom) and node.module in ('torch', 'numpy', 'pickle', 'yaml'):
            yield from (n for n in names if n.split('.')[-1] in ('load', 'loads', 'Unpickler'))


def test_nothing_else_in_the_project_reads_such_files(repo):
    files = [path for folder in ('mmpvg', 'tools') for path in (repo / folder).rglob('*.py')]
    assert len(files) > 100
    for path in files:
        name = path.relative_to(repo).as_posix()
        found = set(readers_in(path.read_text(encoding='utf-8')))
        found -= OWN_FILES.get(name, set())
        assert {reader for reader in found if READERS.get(reader) != name} == set(), name
    allowed = {'torch.load': 'weights_only', 'np.load': 'allow_pickle'}
    for reader, option in allowed.items():
        tree = ast.parse(Path(repo, READERS[reader]).read_text(encoding='utf-8'))
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
        (call,) = [call for call in calls if ast.unparse(call.func) == reader]
        (value,) = [keyword.value.value for keyword in call.keywords if keyword.arg == option]
        assert value is (option == 'weights_only')


@pytest.mark.parametrize(
    'source',
    ['import pickle', 'from pickle import load', 'torch.load(x)', 'f = np.load', 'eval("1")']
    + ['from mmengine.fileio import load', 'yaml.load(x)', 'torch.jit.load(x)', 'import dill']
    + ['from torch import load', 'mmengine.load(x)', 'from yaml import load'],
)  # fmt: skip
def test_the_search_finds_each(source):
    assert list(readers_in(source))
