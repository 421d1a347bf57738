import pytest
import torch

from benchmarks.ops.compiled import load_compiled


@pytest.fixture(scope='session')
def compiled(tmp_path_factory):
    """The functions of a compiled mmcv; skips where there is none."""
    module, where = load_compiled(tmp_path_factory.mktemp('compiled'))
    if module is None:
        pytest.skip(where)
    return module


@pytest.fixture(params=['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def device(request, compiled):
    """Devices that both sets of operators run on."""
    if request.param == 'cuda':
        need_cuda(compiled)
    return request.param


@pytest.fixture(params=[pytest.param('cuda', marks=pytest.mark.gpu)])
def cuda(request, compiled):
    """CUDA, for operators that compiled mmcv has there alone."""
    need_cuda(compiled)
    return request.param


def need_cuda(compiled):
    if not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')
    if compiled.get_compiling_cuda_version() == 'not available':
        pytest.skip('mmcv is compiled for the CPU alone')
