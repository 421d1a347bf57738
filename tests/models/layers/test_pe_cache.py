"""The delivered PE of grids met before: computed once, and never stale."""

import copy
import pickle

import pytest
import torch

from mmpvg.models import MPVGViT, MPVGViTAdapter
from mmpvg.models.layers import PECache
from mmpvg.models.layers import position_embedding as pe_module

ARCH = dict(embed_dims=32, num_layers=3, num_heads=2)
IMAGE = torch.randn(1, 3, 40, 72, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return MPVGViT(ARCH, img_size=32, patch_size=8).eval()


@pytest.fixture
def computed(monkeypatch):
    """Counts resizes and norms of the PE."""
    counts = dict(resizes=0, norms=0)
    resize, norm = pe_module.resize_position_embedding, torch.nn.LayerNorm.forward

    def count_resize(*args):
        counts['resizes'] += 1
        return resize(*args)

    def count_norm(self, x):
        # The PE has no batch; images come in batches of 2 where norms are counted.
        counts['norms'] += x.shape[0] == 1
        return norm(self, x)

    monkeypatch.setattr(pe_module, 'resize_position_embedding', count_resize)
    monkeypatch.setattr(torch.nn.LayerNorm, 'forward', count_norm)
    return counts


def fresh(vit, image=IMAGE):
    """What it gives with nothing kept."""
    vit.pe_cache.clear()
    return vit(image)[0]


@torch.no_grad()
def test_a_resolution_is_computed_once(vit, computed):
    images = IMAGE.repeat(2, 1, 1, 1)
    first = vit(images)[0]
    assert computed == dict(resizes=1, norms=3)
    assert torch.equal(vit(images)[0], first) and computed == dict(resizes=1, norms=3)
    vit(images.transpose(2, 3))
    assert computed == dict(resizes=2, norms=6)
    vit(images)
    assert computed == dict(resizes=2, norms=6)


def test_frozen_parameters_are_enough(vit, computed):
    for part in (vit.position_embedding, vit.pe_delivery):
        part.requires_grad_(False)
    vit.train()
    for _ in range(2):
        vit(IMAGE.repeat(2, 1, 1, 1))[0].sum().backward()
    assert computed == dict(resizes=1, norms=3)
    assert vit.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_training_computes_every_time(vit, computed):
    for _ in range(2):
        vit(IMAGE.repeat(2, 1, 1, 1))[0].sum().backward()
    # Twice a pass: backward computes it again, for the memory.
    assert computed == dict(resizes=4, norms=12)
    assert vit.position_embedding.table.grad.abs().sum() > 0


@pytest.mark.parametrize('kind', [dict(foreach=False), dict(foreach=True), dict(fused=True)])
@pytest.mark.parametrize('optimizer', [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimizer_step_is_noticed(vit, optimizer, kind):
    if kind.get('fused') and torch.__version__ < '2.4':
        pytest.skip(f'torch {torch.__version__} has fused optimizers for CUDA alone')
    steps = optimizer(vit.parameters(), lr=0.1, **kind)
    with torch.no_grad():
        before = vit(IMAGE)[0]
    vit(IMAGE)[0].square().sum().backward()
    # The PE alone moves.
    for name, param in vit.named_parameters():
        if 'position' not in name and 'pe_delivery' not in name:
            param.grad = None
    steps.step()
    with torch.no_grad():
        after = vit(IMAGE)[0]
        assert not torch.equal(after, before)
        assert torch.equal(after, fresh(vit))


def load(vit, other):
    vit.load_state_dict(other.state_dict())


def assign(vit, other):
    vit.load_state_dict(other.state_dict(), assign=True)


def exchange(vit, other):
    vit.position_embedding = other.position_embedding


def write_one_norm(vit, other):
    vit.pe_delivery.block_norms['2'].weight.mul_(-1)


def swap_data(vit, other):
    # As mmengine's EMAHook before a validation, which then calls eval().
    vit.position_embedding.table.data.copy_(other.position_embedding.table.data)
    vit.eval()


def lose_precision(vit, other):
    vit.bfloat16().float()


@pytest.mark.parametrize(
    'change', [load, assign, exchange, write_one_norm, swap_data, lose_precision]
)
@torch.no_grad()
def test_a_change_is_noticed(vit, change):
    before = vit(IMAGE)[0]
    torch.manual_seed(1)
    other = MPVGViT(ARCH, img_size=32, patch_size=8).eval()
    change(vit, other)
    after = vit(IMAGE)[0]
    assert not torch.equal(after, before)
    assert torch.equal(after, fresh(vit))


def test_a_move_is_noticed(vit):
    with torch.no_grad():
        vit(IMAGE)
        vit.to('meta')
        assert vit(IMAGE.to('meta'))[0].is_meta


def test_inference_mode_does_not_reach_training(vit):
    for part in (vit.position_embedding, vit.pe_delivery):
        part.requires_grad_(False)
    with torch.inference_mode():
        vit(IMAGE)
    vit(IMAGE)[0].sum().backward()


@torch.no_grad()
def test_who_watches_sees_every_pass(vit):
    seen = []
    vit(IMAGE)
    handle = vit.pe_delivery.block_norms['1'].register_forward_hook(
        lambda module, args, output: seen.append(output.shape)
    )
    vit(IMAGE)
    vit(IMAGE)
    assert seen == [(1, 45, 32)] * 2
    handle.remove()


@torch.no_grad()
def test_an_ensemble_under_vmap(vit):
    torch.manual_seed(1)
    other = MPVGViT(ARCH, img_size=32, patch_size=8).eval()
    for block in (*vit.blocks, *other.blocks):
        # torch 2.1 has no rule for its fused kernel.
        block.attn.fused = False
    wanted = [fresh(network) for network in (vit, other)]
    parameters, buffers = torch.func.stack_module_state([vit, other])
    found = torch.func.vmap(lambda p, b: torch.func.functional_call(vit, (p, b), (IMAGE,))[0])(
        parameters, buffers
    )
    assert torch.allclose(found, torch.stack(wanted), atol=1e-4)


@torch.no_grad()
def test_memory_is_bounded(vit):
    size = 5 * 45 * 32 * 4  # input, two blocks, last norm; and one more at most
    vit.pe_cache = PECache(limit=2 * size)
    for side in range(32, 96, 8):
        vit(torch.rand(1, 3, 40, side))
        kept = vit.pe_cache._kept.values()
        every = [t for d in kept for t in (d.input, *d.blocks, d.last_norm) if t is not None]
        assert 0 < sum(t.numel() * 4 for t in every) == vit.pe_cache._bytes <= 2 * size
    # More than the limit is not kept at all.
    vit.pe_cache = PECache(limit=100)
    vit(IMAGE)
    assert not vit.pe_cache._kept


@torch.no_grad()
def test_copies_and_checkpoints_are_without_it(vit):
    vit(IMAGE)
    for other in (copy.deepcopy(vit), pickle.loads(pickle.dumps(vit))):
        assert not other.pe_cache._kept
        assert torch.equal(other(IMAGE)[0], vit(IMAGE)[0])
    assert not any('cache' in name for name in vit.state_dict())


@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
@pytest.mark.parametrize('kind', [MPVGViT, MPVGViTAdapter])
@torch.no_grad()
def test_every_network_gives_the_same_with_it(kind, delivery):
    torch.manual_seed(0)
    if kind is MPVGViT:
        vit = kind(ARCH, img_size=32, patch_size=8, pe_delivery=delivery, with_cls_token=True)
    else:
        pytest.importorskip('mmcv.ops')
        vit = kind(
            dict(embed_dims=32, num_layers=4, num_heads=2), img_size=64, pe_delivery=delivery
        )
    vit.eval()
    image = torch.rand(1, 3, 80, 112)
    first, second = vit(image), vit(image)
    assert vit.pe_cache._kept
    assert all(torch.equal(a, b) for a, b in zip(first, second))
