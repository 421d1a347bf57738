"""Every module of mmpvg.models: gradients against finite differences, and types of numbers."""

import contextlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import mmpvg.models
from mmpvg.models import (
    CompactViT,
    MPVGViT,
    MPVGViTAdapter,
    SimpleFeaturePyramid,
    TokenPooling,
    layers,
)
from mmpvg.models.adapter import (
    ConvMlp,
    DeformableInputs,
    Extractor,
    Injector,
    Interaction,
    Level,
    SpatialPrior,
)
from mmpvg.models.heads import build_segmenter_mask_head
from mmpvg.models.layers.windows import Grid

ARCH = dict(embed_dims=24, num_layers=4, num_heads=2)
DIMS, HEADS = 24, 2
IMAGES = [(37, 50), (64, 48)]
GRIDS = [(5, 7), (4, 4)]
# Small, so that few ReLUs and sampled cells change over within it.
STEP = 1e-8


@dataclass
class Case:
    """A module, and how it is called.

    Attributes:
        build: Makes the module.
        call: Runs it on an input, for the (height, width) at hand; gives a tensor, or several, or
            pairs of them.
        shape: Shape of the input for batch and (height, width).
        sizes: Sizes that are run.
    """

    build: Callable[[], nn.Module]
    call: Callable[[nn.Module, Tensor, Grid], object]
    shape: Callable[[int, Grid], tuple[int, ...]]
    sizes: list[Grid]


def image_case(build: Callable[[], nn.Module]) -> Case:
    return Case(build, lambda m, x, size: m(x), lambda b, size: (b, 3, *size), IMAGES)


def map_case(build: Callable[[], nn.Module]) -> Case:
    return Case(build, lambda m, x, size: m(x), lambda b, size: (b, DIMS, *size), GRIDS)


def token_case(build: Callable[[], nn.Module], call=lambda m, x, grid: m(x)) -> Case:
    return Case(build, call, lambda b, grid: (b, grid[0] * grid[1], DIMS), GRIDS)


def vit(**kwargs) -> Case:
    return image_case(lambda: MPVGViT(ARCH, img_size=48, **kwargs))


def adapter(norm: str = 'BN', **kwargs) -> Case:
    norm_cfg = {
        'BN': dict(type='BN'),
        'GN': dict(type='GN', num_groups=4),
        'LN2d': dict(type='mmpvg.LayerNorm2d', eps=1e-6),
    }[norm]
    return image_case(
        lambda: MPVGViTAdapter(ARCH, img_size=48, conv_channels=4, norm_cfg=norm_cfg, **kwargs)
    )


def pair_bias(module: nn.Module, q: Tensor, grid: Grid) -> Tensor:
    """A bias that has no input, as part of logits."""
    logits = q @ q.transpose(1, 2)
    return logits[:, None] + module(grid)


def heads(x: Tensor) -> Tensor:
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


def attention(window: int = 0, fused: bool = True, bias: int = 0, relative: str = '') -> nn.Module:
    rel_pos = {
        '': lambda: None,
        'mlp': lambda: layers.RelativePositionMlp(HEADS, 8),
        'decomposed': lambda: layers.DecomposedRelativePosition(
            (window,) * 2 if window else (3, 6), DIMS // HEADS, resize=not window
        ),
    }[relative]()
    gaussian = layers.GaussianAttentionBias(bias) if bias else None
    module = layers.Attention(DIMS, HEADS, window, bias=gaussian, rel_pos=rel_pos)
    module.fused = fused
    return module


def pyramid_levels(grid: Grid) -> list[Level]:
    """Levels of strides 8, 16 and 32 around the ViT's grid."""
    h, w = grid
    return [Level((2 * h, 2 * w), 8), Level(grid, 16), Level((-(-h // 2), -(-w // 2)), 32)]


def pyramid_tokens(grid: Grid) -> int:
    return sum(level.size for level in pyramid_levels(grid))


def injector(module: nn.Module, x: Tensor, grid: Grid) -> Tensor:
    tokens, pyramid = x.split([grid[0] * grid[1], pyramid_tokens(grid)], dim=1)
    inputs = DeformableInputs.build([Level(grid, 16)], pyramid_levels(grid), x)
    return module(tokens, pyramid, inputs)


def extractor(module: nn.Module, x: Tensor, grid: Grid) -> Tensor:
    tokens, pyramid = x.split([grid[0] * grid[1], pyramid_tokens(grid)], dim=1)
    inputs = DeformableInputs.build(pyramid_levels(grid), [Level(grid, 16)], x)
    return module(pyramid, tokens, inputs, pyramid_levels(grid))


def interaction(module: nn.Module, x: Tensor, grid: Grid) -> Tensor:
    tokens = grid[0] * grid[1]
    for part in module.extractors:
        injected = injector(module.injector, x, grid)
        x = torch.cat([injected, extractor(part, torch.cat([injected, x[:, tokens:]], 1), grid)], 1)
    return x


def both_rows(batch: int, grid: Grid) -> tuple[int, ...]:
    return batch, grid[0] * grid[1] + pyramid_tokens(grid), DIMS


def delivered(module: nn.Module, pos: Tensor, grid: Grid) -> list[Tensor]:
    at_input, blocks, last = module(pos)
    return [pe for pe in (at_input, *blocks, last) if pe is not None]


def plan(name: str) -> layers.PEDeliveryPlan:
    return layers.PEDeliveryPlan.parse(name)


def added(module: nn.Module, x: Tensor, grid: Grid) -> Tensor:
    """A module without an input, added to one."""
    return x + module(grid)


GAUSSIAN_WINDOWS = dict(window_size=2, global_blocks=(1, 3), gaussian_bias='head')


def segmenter_head() -> nn.Module:
    return build_segmenter_mask_head(
        in_channels=DIMS,
        channels=DIMS,
        num_classes=3,
        num_layers=1,
        num_heads=HEADS,
        embed_dims=DIMS,
        drop_path_rate=0.0,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        dropout_ratio=0.0,
    )


CASES = {
    'segmenter head': Case(
        segmenter_head, lambda m, x, grid: m([x]), lambda b, grid: (b, DIMS, *grid), GRIDS
    ),
    **{f'vit {name}': vit(pe_delivery=name) for name in layers.PE_DELIVERIES if name != 'none'},
    'vit chain off': vit(pe_delivery=dict(base='mpvg', hierarchical=False, last_norm=1)),
    'vit without PE': vit(pe_type=None, pe_delivery='none', relative_position='mlp'),
    'vit sinusoid 1d': vit(pe_type='sinusoid_1d', with_cls_token=True),
    'vit sinusoid 2d': vit(pe_type='sinusoid_2d'),
    'vit bilinear': vit(interpolate_mode='bilinear'),
    'vit tokens': vit(with_cls_token=True, num_registers=2, layer_scale_init_value=0.5),
    'vit class token': vit(with_cls_token=True, out_type='cls_token', qkv_bias=False),
    'vit map and class token': vit(with_cls_token=True, out_type='featmap_and_cls_token'),
    'vit two outputs': vit(out_indices=(0, 2), drop_path_rate=0.3),
    'vit no norm': vit(final_norm=False, out_indices=(1, 3)),
    'vit windows': vit(window_size=3, patch_size=8),
    'vit windows checkpointed': vit(window_size=3, with_cp=True, drop_path_rate=0.3),
    'vit head mlp': vit(gaussian_bias='head', relative_position='mlp'),
    'vit gaussian block': vit(gaussian_bias='block', with_cls_token=True),
    'vit gaussian windows': vit(
        **{**GAUSSIAN_WINDOWS, 'gaussian_bias': dict(per='head', blocks='window')}
    ),
    'vit relative mlp': vit(relative_position='mlp', **GAUSSIAN_WINDOWS),
    'vit relative decomposed': vit(relative_position='decomposed', **GAUSSIAN_WINDOWS),
    'vit decomposed tokens': vit(relative_position='decomposed', with_cls_token=True),
    **{
        f'compact vit {name}': image_case(lambda name=name: CompactViT(ARCH, pe_delivery=name))
        for name in ('lape', 'mpvg')
    },
    'adapter BN': adapter(),
    'adapter GN': adapter('GN', pe_delivery='lape', vit_maps='last'),
    'adapter LN': adapter('LN2d', pe_delivery='default'),
    'adapter windows': adapter(window_size=2, with_cp=True, drop_path_rate=0.2, vit_maps='last'),
    'adapter biases': adapter(
        relative_position='decomposed',
        deform_ratio=0.5,
        layer_scale_init_value=None,
        **GAUSSIAN_WINDOWS,
    ),
    'pyramid': map_case(lambda: SimpleFeaturePyramid(DIMS, 8)),
    'pyramid one scale': map_case(lambda: SimpleFeaturePyramid(DIMS, 8, scales=(0.5,), num_outs=2)),
    **{
        f'pooling {name}': map_case(lambda name=name: TokenPooling(name, ARCH, eps=0.5))
        for name in ('average', 'gem', 'ggem')
    },
    'prior BN': image_case(lambda: SpatialPrior(3, 4, DIMS, dict(type='BN'))),
    'prior GN': image_case(lambda: SpatialPrior(3, 4, DIMS, dict(type='GN', num_groups=2))),
    'injector': Case(lambda: Injector(DIMS, HEADS, 2, 1.0), injector, both_rows, GRIDS),
    'extractor': Case(
        lambda: Extractor(DIMS, HEADS, 2, 0.5, 0.5, 0.2), extractor, both_rows, GRIDS
    ),
    'interaction': Case(
        lambda: Interaction(
            Injector(DIMS, HEADS, 2, 1.0), [Extractor(DIMS, HEADS, 2, 1.0, 0.5, 0.0)] * 2
        ),
        interaction,
        both_rows,
        GRIDS,
    ),
    'conv mlp': Case(
        lambda: ConvMlp(DIMS, 8),
        lambda m, x, grid: m(x, pyramid_levels(grid)),
        lambda b, grid: (b, pyramid_tokens(grid), DIMS),
        GRIDS,
    ),
    'patch embed': Case(
        lambda: layers.PatchEmbed(16, 3, DIMS),
        lambda m, x, size: m(x)[0],
        lambda b, size: (b, 3, *size),
        IMAGES,
    ),
    'layer norm 2d': map_case(lambda: layers.LayerNorm2d(DIMS)),
    'layer scale': token_case(lambda: layers.LayerScale(DIMS, 0.5)),
    'drop path': token_case(lambda: layers.DropPath(0.1)),
    'mlp': token_case(lambda: layers.Mlp(DIMS, 40)),
    'block': token_case(
        lambda: layers.Block(DIMS, attention(3, bias=1), 2.0, 0.2, 0.5),
        lambda m, x, grid: m(x, x[:1].sin(), grid),
    ),
    'compact block': token_case(
        lambda: layers.CompactBlock(DIMS, attention(3, bias=1), 2.0, 0.2),
        lambda m, x, grid: m(x, x[:1].sin(), grid),
    ),
    **{
        f'attention {window} {fused} {bias} {relative}': token_case(
            lambda w=window, f=fused, b=bias, r=relative: attention(w, f, b, r),
            lambda m, x, grid: m(x, grid),
        )
        for window in (0, 3)
        for fused in (True, False)
        for bias in (0, HEADS)
        for relative in ('', 'mlp', 'decomposed')
    },
    'gaussian': token_case(lambda: layers.GaussianAttentionBias(HEADS), pair_bias),
    'relative mlp': token_case(lambda: layers.RelativePositionMlp(HEADS, 8), pair_bias),
    'relative decomposed': token_case(
        lambda: layers.DecomposedRelativePosition((3, 6), DIMS // HEADS),
        lambda m, x, grid: m(heads(x), grid),
    ),
    'position embedding': token_case(lambda: layers.PositionEmbedding((3, 6), DIMS), added),
    **{
        f'delivery {name}': token_case(
            lambda name=name: layers.PEDelivery(plan(name), 4, DIMS), delivered
        )
        for name in ('lape', 'pvg', 'mpvg')
    },
    'average': token_case(layers.AveragePooling),
    'generalized mean': token_case(lambda: layers.GeneralizedMeanPooling(DIMS, 4, eps=0.5)),
}


def own_modules() -> set[type[nn.Module]]:
    """The classes of modules that mmpvg.models defines."""
    found = set()
    for info in pkgutil.walk_packages(mmpvg.models.__path__, 'mmpvg.models.'):
        members = vars(importlib.import_module(info.name)).values()
        found |= {m for m in members if inspect.isclass(m) and m.__module__ == info.name}
    return {c for c in found if issubclass(c, nn.Module)}


def test_every_module_has_a_case():
    roots = {type(case.build()) for case in CASES.values()}
    # A base class is run through what inherits from it.
    run = {base for root in roots for base in root.__mro__}
    assert own_modules() - run == set()


def randomized(module: nn.Module) -> nn.Module:
    """In float64, with random parameters and statistics, away from what symmetry would hide."""
    module = module.double()
    for name, value in module.state_dict().items():
        if value.is_floating_point() and 'position_embedding.table' not in name:
            nn.init.normal_(value, std=0.3)
        if name.endswith(('running_var', '.sigma', 'sigma')):
            value.abs_().add_(1)
        if name.endswith(('pool.p', 'p')) and value.ndim == 1:
            value.abs_().add_(2)
    return module


def as_view_of_tokens(x: Tensor) -> Tensor:
    """The same values as a map made of tokens, or as rows cut out of longer ones.

    Of one image such a map is contiguous in no unique way: torch reads its strides as both of its
    formats, and as different ones in forward and backward.
    """
    if x.ndim == 4:
        tokens = torch.cat([x.flatten(2).transpose(1, 2), x.new_zeros(len(x), 3, x.shape[1])], 1)
        return tokens[:, :-3].transpose(1, 2).unflatten(2, x.shape[2:])
    return torch.cat([x, x], dim=2)[..., : x.shape[2]]


@contextlib.contextmanager
def moved(tensors: list[Tensor], directions: list[Tensor], step: float) -> Iterator[None]:
    with torch.no_grad():
        for tensor, direction in zip(tensors, directions):
            tensor.add_(direction, alpha=step)
        yield
        for tensor, direction in zip(tensors, directions):
            tensor.sub_(direction, alpha=step)


def run(case: Case, module: nn.Module, x: Tensor, size: Grid) -> list[Tensor]:
    """The outputs as a flat list."""
    out = case.call(module, x, size)
    outputs = [out] if isinstance(out, Tensor) else list(out)
    return [t for o in outputs for t in ([o] if isinstance(o, Tensor) else o)]


def check_gradients(case: Case, module: nn.Module, x: Tensor, size: Grid, layout: Callable) -> None:
    """Compare the slopes of a random sum of the outputs along random directions."""

    def value(weights: list[Tensor], x: Tensor) -> Tensor:
        torch.manual_seed(3)  # what stochastic depth drops
        outputs = run(case, module, layout(x), size)
        if not weights:
            weights += [torch.randn_like(o.detach().contiguous()) for o in outputs]
        return sum((o * w.to(o.dtype)).sum() for o, w in zip(outputs, weights))

    x = x.requires_grad_()
    names = ['input', *(name for name, _ in module.named_parameters())]
    tensors = [x, *module.parameters()]
    weights: list[Tensor] = []
    gradients = torch.autograd.grad(value(weights, x), tensors)
    directions = [torch.randn_like(tensor) for tensor in tensors]
    for part in (slice(0, 1), slice(1, None)):
        if not tensors[part]:
            continue
        slopes = [(g * d).sum() for g, d in zip(gradients[part], directions[part])]
        with moved(tensors[part], directions[part], STEP):
            above = value(weights, x)
        with moved(tensors[part], directions[part], -STEP):
            below = value(weights, x)
        scale = torch.stack(slopes).norm().item()
        assert scale > 0
        measured = ((above - below) / (2 * STEP)).item()
        rounding = 1e-6 * (1 + abs(above.item()))
        assert sum(slopes).item() == pytest.approx(measured, abs=1e-5 * scale + rounding)
    # Other kernels run in float32. Their gradients are those of float64.
    single = module.float()
    x32 = x.detach().float().requires_grad_()
    inputs = [x32, *single.parameters()]
    for name, wanted, got in zip(
        names, gradients, torch.autograd.grad(value(weights, x32), inputs)
    ):
        assert (got - wanted).norm() <= 1e-2 * wanted.norm() + 1e-4, name
    module.double()


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('name', CASES)
def test_gradients_are_those_of_finite_differences(name, batch, training):
    case = CASES[name]
    for size, layout in zip(case.sizes, (as_view_of_tokens, Tensor.contiguous)):
        torch.manual_seed(1)
        module = randomized(case.build()).train(training)
        x = torch.randn(case.shape(batch, size), dtype=torch.float64)
        check_gradients(case, module, x, size, layout)


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
@pytest.mark.parametrize('name', CASES)
def test_a_module_of_another_type_as_a_whole(name, dtype):
    case = CASES[name]
    size = case.sizes[0]
    torch.manual_seed(1)
    module = randomized(case.build()).eval()
    x = torch.randn(case.shape(2, size), dtype=torch.float64)
    with torch.no_grad():
        expected = run(case, module.float(), x.float(), size)
        outputs = run(case, module.to(dtype), x.to(dtype), size)
    tolerance = 1e-3 if dtype == torch.float64 else 0.1
    for got, wanted in zip(outputs, expected):
        assert (got.double() - wanted).norm() <= tolerance * wanted.norm()
        # A bias of logits is float32 at least; whatever gives features gives its own type.
        assert got.dtype == dtype or name in ('gaussian', 'relative mlp')
