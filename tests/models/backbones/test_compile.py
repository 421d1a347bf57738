"""The whole backbone is one graph for ``torch.compile``, and computes the same."""

import pytest
import torch

from mmpvg.models import MPVGViT

ARCH = dict(embed_dims=32, num_layers=4, num_heads=2)
KINDS = {
    'default': dict(pe_delivery='default'),
    'lape': dict(pe_delivery='lape'),
    'mpvg': dict(),
    'class token': dict(with_cls_token=True, num_registers=2),
    'windows': dict(window_size=3),
    'gaussian': dict(gaussian_bias='head', window_size=3),
    'decomposed': dict(relative_position='decomposed', window_size=3),
    'mlp': dict(relative_position='mlp'),
    'drop path': dict(drop_path_rate=0.5),
}


@pytest.mark.parametrize('training', [False, True], ids=['inference', 'training'])
@pytest.mark.parametrize('kind', KINDS)
def test_no_graph_break(kind, training):
    torch._dynamo.reset()
    torch.manual_seed(0)
    vit = MPVGViT(ARCH, img_size=32, patch_size=8, **KINDS[kind]).train(training)
    image = torch.randn(2, 3, 40, 56)
    # Tracing alone; what a backend makes of the graph is torch's to test.
    compiled = torch.compile(vit, backend='eager', fullgraph=True)
    with torch.set_grad_enabled(training):
        torch.manual_seed(1)
        wanted = vit(image)[0]
        torch.manual_seed(1)
        found = compiled(image)[0]
    assert torch.allclose(found, wanted, atol=1e-5)
    if training:
        found.square().mean().backward()
        assert all(parameter.grad is not None for parameter in vit.parameters())


@torch.no_grad()
def test_a_compiled_pass_is_not_stale():
    """The graph must not contain a PE of an earlier call."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    vit = MPVGViT(ARCH, img_size=32, patch_size=8).eval()
    image = torch.randn(1, 3, 40, 56)
    vit(image)
    compiled = torch.compile(vit, backend='eager', fullgraph=True)
    before = compiled(image)[0]
    vit.position_embedding.table.data.mul_(-2)
    after = compiled(image)[0]
    assert not torch.allclose(after, before, atol=1e-3)
    assert torch.allclose(after, vit(image)[0], atol=1e-5)
