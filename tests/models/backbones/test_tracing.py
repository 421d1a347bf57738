"""torch.jit.trace, mmengine's complexity analysis and torch.export against the network itself."""

import itertools

import pytest
import torch
from mmengine.analysis import get_model_complexity_info

from mmpvg.models import MPVGViT, MPVGViTAdapter

ARCH = dict(embed_dims=24, num_layers=2, num_heads=2)
WINDOWS = dict(window_size=2, global_blocks=(1,))
KINDS = {
    'global': {},
    'windows': WINDOWS,
    'windows checkpointed': dict(WINDOWS, with_cp=True),
    'class token': dict(with_cls_token=True, out_type='cls_token'),
    'pairs': dict(with_cls_token=True, num_registers=2, out_type='featmap_and_cls_token'),
    'no delivery': dict(pe_type=None, pe_delivery='none', relative_position='mlp'),
    **{
        f'{bias} {relative} {"windows" if windows else "global"}': dict(
            windows, gaussian_bias=bias, relative_position=relative
        )
        for windows in ({}, WINDOWS)
        for bias, relative in (('head', None), ('block', 'mlp'), (None, 'decomposed'))
    },
}  # fmt: skip
SIZE = (50, 77)

# A trace is of one size of image, which is what torch warns of.
pytestmark = pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')


def randomized(model):
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=1.0 if 'sigma' in name else 0.2)
    return model


def make(kind):
    torch.manual_seed(0)
    if kind.startswith('adapter'):
        maps = kind.split()[1]
        model = MPVGViTAdapter(
            dict(ARCH, num_layers=4),
            img_size=48,
            conv_channels=4,
            norm_cfg=dict(type='BN'),
            vit_maps=maps,
            **WINDOWS,
        )
    else:
        model = MPVGViT(ARCH, img_size=48, out_indices=(0, 1), **KINDS[kind])
    return randomized(model).eval()


def flat(outputs):
    return [t for o in outputs for t in ([o] if isinstance(o, torch.Tensor) else o)]


def assert_same(outputs, expected):
    for got, wanted in zip(flat(outputs), flat(expected)):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ('kind', 'gradients'),
    [*itertools.product(KINDS, (False, True)), ('adapter each', False), ('adapter last', True)],
)
def test_a_trace_gives_what_the_network_does(kind, gradients):
    model = make(kind)
    with torch.set_grad_enabled(gradients):
        traced = torch.jit.trace(model, torch.randn(2, 3, *SIZE))
        image = torch.randn(2, 3, *SIZE)
        assert_same(traced(image), model(image))
        # Never silently wrong: it holds for its own size.
        with pytest.raises(RuntimeError):
            traced(torch.randn(2, 3, 96, 64))


def test_a_trace_stays_right_after_its_network_ran_on(tmp_path):
    model = make('head None windows')
    with torch.no_grad():
        traced = torch.jit.trace(model, torch.randn(1, 3, *SIZE))
        torch.jit.save(traced, tmp_path / 'traced.pt')
        image = torch.randn(1, 3, *SIZE)
        expected = model(image)
        model(torch.randn(4, 3, 96, 64))
        assert_same(traced(image), expected)
        assert_same(torch.jit.load(tmp_path / 'traced.pt')(image), expected)


@pytest.mark.parametrize('kind', ['global', 'windows', 'head None windows', 'adapter last'])
def test_mmengines_complexity_analysis(kind):
    model = make(kind)
    found = get_model_complexity_info(model, (3, *SIZE), show_table=False, show_arch=False)
    assert found['params'] == sum(p.numel() for p in model.parameters())
    # 4x5 tokens: a multiplication for every weight of the patches and of the linear layers, and,
    # as mmengine counts it, 5 for every value of a LayerNorm. Softmax attention it cannot count.
    weights = [
        model.patch_embed.proj.weight,
        *(p for p in model.blocks.parameters() if p.ndim == 2),
    ]
    norms = sum(isinstance(module, torch.nn.LayerNorm) for module in model.modules())
    vit = 20 * (sum(w.numel() for w in weights) + 5 * 24 * norms)
    if kind.startswith('adapter'):
        assert found['flops'] > vit
    else:
        assert found['flops'] == vit


@pytest.mark.parametrize(
    'kind', ['pairs', 'windows', 'block mlp windows', 'None decomposed global']
)
def test_an_export_gives_what_the_network_does(kind):
    model = make(kind)
    with torch.no_grad():
        exported = torch.export.export(model, (torch.randn(2, 3, *SIZE),))
        image = torch.randn(2, 3, *SIZE)
        assert_same(exported.module()(image), model(image))
