"""PE delivery against the equations of the papers, written out."""

import pytest
import torch
import torch.nn.functional as F

from mmpvg.models.layers import PE_DELIVERIES, PEDelivery, PEDeliveryPlan

DIMS, DEPTH = 16, 4


def make(delivery, last_norm=True):
    """A delivery with random norms, so that a wrong one is noticed."""
    torch.manual_seed(0)
    module = PEDelivery(PEDeliveryPlan.parse(delivery), DEPTH, DIMS, last_norm=last_norm)
    for param in module.parameters():
        torch.nn.init.normal_(param)
    return module


def norm(module, x):
    return F.layer_norm(x, (DIMS,), module.weight, module.bias, 1e-6)


@pytest.fixture
def pos():
    return torch.randn(1, 35, DIMS, generator=torch.Generator().manual_seed(1))


def test_default(pos):
    module = make('default')
    assert not list(module.parameters())
    delivered = module(pos)
    assert delivered.input is pos
    assert delivered.blocks == [None] * DEPTH
    assert delivered.last_norm is None


def test_lape(pos):
    module = make('lape')
    delivered = module(pos)
    assert delivered.input is None
    p = pos
    for block in range(DEPTH):
        p = norm(module.block_norms[str(block)], p)
        assert torch.allclose(delivered.blocks[block], p, atol=1e-6)
    assert delivered.last_norm is None


@pytest.mark.parametrize('name', ['pvg', 'mpvg'])
def test_pvg_and_mpvg(pos, name):
    module = make(name)
    delivered = module(pos)
    assert delivered.input is pos
    assert delivered.blocks[0] is None
    p = pos
    for block in range(1, DEPTH):
        p = norm(module.block_norms[str(block)], p)
        assert torch.allclose(delivered.blocks[block], p, atol=1e-6)
    if name == 'pvg':
        assert delivered.last_norm is None
    else:
        # The raw table, not the end of the chain.
        assert torch.allclose(delivered.last_norm, norm(module.last_norm, pos), atol=1e-6)


def test_not_hierarchical(pos):
    module = make(dict(base='mpvg', hierarchical=False))
    for block, p in enumerate(module(pos).blocks[1:], start=1):
        assert torch.allclose(p, norm(module.block_norms[str(block)], pos), atol=1e-6)


@pytest.mark.parametrize('hierarchical', [True, False])
def test_another_pe_at_the_last_norm(pos, hierarchical):
    module = make(dict(base='mpvg', hierarchical=hierarchical, last_norm=2))
    delivered = module(pos)
    expected = norm(module.last_norm, delivered.blocks[2])
    assert torch.allclose(delivered.last_norm, expected, atol=1e-6)


def test_switches_of_the_ablations(pos):
    assert make(dict(base='mpvg', at_input=False))(pos).input is None
    assert make(dict(base='mpvg', first_block=0))(pos).blocks[0] is not None
    # Pooling + last-norm PE without layer-wise delivery.
    delivered = make(dict(last_norm='pos'))(pos)
    assert delivered.blocks == [None] * DEPTH and delivered.last_norm is not None


def test_names_stand_for_their_switches():
    assert PE_DELIVERIES['mpvg'] == PEDeliveryPlan(True, 1, True, 'pos')
    switches = dict(at_input=True, first_block=1, hierarchical=True, last_norm='pos')
    assert PEDeliveryPlan.parse(switches) == PE_DELIVERIES['mpvg']
    assert PEDeliveryPlan.parse(dict(base='lape')) == PE_DELIVERIES['lape']


def test_no_norm_is_made_for_a_missing_last_norm(pos):
    module = make('mpvg', last_norm=False)
    assert module.last_norm is None
    assert module(pos).last_norm is None


def test_blocks_that_are_not_built_have_no_norm(pos):
    module = PEDelivery(PEDeliveryPlan.parse('mpvg'), DEPTH, DIMS, num_blocks=2, last_norm=False)
    assert list(module.block_norms) == ['1']
    assert len(module(pos).blocks) == 2
    assert not list(PEDelivery(PEDeliveryPlan.parse('pvg'), DEPTH, DIMS, num_blocks=1).parameters())


@pytest.mark.parametrize(
    ('delivery', 'message'),
    [
        ('mvpg', "'mvpg'.*default, lape, pvg, mpvg"),
        (dict(first_blok=1), "'first_blok'.*first_block"),
        (dict(first_block=4), 'first_block=4.*0 to 3'),
        (dict(base='mpvg', last_norm=0), 'last_norm=0.*blocks 1 to 3'),
        (dict(base='mpvg', last_norm=4), 'last_norm=4'),
        (dict(last_norm=1), 'last_norm=1.*none'),
        (dict(last_norm='end'), "'end'"),
        (dict(last_norm=True), 'True'),
    ],
)
def test_bad_deliveries(delivery, message):
    with pytest.raises(ValueError, match=message):
        make(delivery)
