"""States of a network's positions: what changes in them, and that all comes back."""

import pytest
import torch

from mmpvg.analysis.pe_states import PE_STATES, pe_state, states_of
from mmpvg.models import CompactViT

DROPPED, DRAWN = PE_STATES[3:]


@pytest.mark.parametrize('cls_token', [False, True])
def test_states_of_the_pe(make_vit, cls_token):
    vit = make_vit(with_cls_token=cls_token)
    before = {name: p.clone() for name, p in vit.state_dict().items()}
    rows = [
        r for r in (vit.position_embedding.table, vit.position_embedding.cls_row) if r is not None
    ]
    with pe_state(vit, 'zeroed'):
        assert not any(r.any() for r in rows)
    with pe_state(vit, 're-initialized', seed=1):
        drawn = rows[0].clone()
        assert 0.01 < drawn.std() < 0.03
    with pe_state(vit, 're-initialized', seed=1):
        assert torch.equal(drawn, rows[0])
    with pe_state(vit, 're-initialized', seed=2):
        assert not torch.equal(drawn, rows[0])
    with pe_state(vit, 'as it is'):
        assert torch.equal(rows[0], before['position_embedding.table'])
    with pytest.raises(KeyError), pe_state(vit, 'zeroed'):
        raise KeyError
    assert all(torch.equal(p, before[name]) for name, p in vit.state_dict().items())


def test_states_that_cannot_be(make_vit):
    with (
        pytest.raises(ValueError, match="unknown state of the PE 'gone'"),
        pe_state(make_vit(), 'gone'),
    ):
        pass
    without = make_vit(pe_delivery='none', pe_type=None)
    with pytest.raises(ValueError, match='no position embedding'), pe_state(without, 'zeroed'):
        pass


def test_a_fixed_sinusoid_cannot_be_drawn_again(make_vit):
    vit = make_vit(pe_type='sinusoid_2d')
    assert states_of(vit) == ('as it is', 'zeroed')
    with pytest.raises(ValueError, match='never drawn'), pe_state(vit, 're-initialized'):
        pass


def test_a_pe_is_drawn_with_its_own_deviation():
    vit = CompactViT(img_size=64)
    with pe_state(vit, 're-initialized'):
        assert vit.position_embedding.table.std().item() == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize(
    ('kwargs', 'expected'),
    [
        (dict(), PE_STATES[:3]),
        (dict(relative_position='mlp'), PE_STATES),
        (dict(relative_position='decomposed'), PE_STATES[:4]),
        (dict(pe_type='sinusoid_1d', relative_position='mlp'), (*PE_STATES[:2], DROPPED, DRAWN)),
        (dict(pe_delivery='none', pe_type=None), PE_STATES[:1]),
        (
            dict(pe_delivery='none', pe_type=None, relative_position='mlp'),
            ('as it is', DROPPED, DRAWN),
        ),
    ],
)
def test_states_that_a_network_can_have(make_vit, kwargs, expected):
    vit = make_vit(**kwargs)
    assert states_of(vit) == expected
    assert states_of(vit, ['zeroed']) == (('zeroed',) if 'zeroed' in expected else ())
    for state in set(PE_STATES) - set(expected):
        with pytest.raises(ValueError, match='network|sinusoid|ViTDet'), pe_state(vit, state):
            pass


@pytest.mark.parametrize('window_size', [0, 2])
@pytest.mark.parametrize('kind', ['mlp', 'decomposed'])
def test_dropped_relative_positions_add_nothing(make_vit, kind, window_size):
    """The network of the same weights that has none; the Gaussian bias stays."""
    options = dict(gaussian_bias='head', window_size=window_size)
    vit = make_vit(**options, relative_position=kind)
    without = make_vit(**options)
    without.load_state_dict(vit.state_dict(), strict=False)
    image = torch.rand(2, 3, 24, 40)
    with torch.no_grad():
        before = vit(image)[0]
        with pytest.raises(KeyError), pe_state(vit, DROPPED):
            torch.testing.assert_close(vit(image)[0], without(image)[0])
            raise KeyError
        assert torch.equal(vit(image)[0], before)
        assert not torch.allclose(before, without(image)[0], atol=1e-3)


def test_relative_positions_are_drawn_as_torch_draws_linear_layers(make_vit):
    vit = make_vit(relative_position='mlp')
    before = {name: values.clone() for name, values in vit.state_dict().items()}
    with pe_state(vit, DRAWN, seed=1):
        drawn = {name: values.clone() for name, values in vit.state_dict().items()}
    with pe_state(vit, DRAWN, seed=1):
        assert all(torch.equal(drawn[name], values) for name, values in vit.state_dict().items())
    changed = {name for name in drawn if not torch.equal(drawn[name], before[name])}
    assert changed == {name for name in drawn if '.rel_pos.' in name} and len(changed) == 3 * 4
    # torch's default: uniform up to 1 / sqrt(inputs), of which an MLP has 2 and 128.
    for layer, bound in (('fc1', 2**-0.5), ('fc2', 128**-0.5)):
        for part in ('weight', 'bias'):
            values = [drawn[f'blocks.{b}.attn.rel_pos.mlp.{layer}.{part}'] for b in range(3)]
            assert max(v.abs().max() for v in values) <= bound
        weights = torch.cat(
            [drawn[f'blocks.{b}.attn.rel_pos.mlp.{layer}.weight'] for b in range(3)]
        )
        reset = torch.nn.Linear(round(bound**-2), 4096)
        assert weights.std().item() == pytest.approx(reset.weight.std().item(), rel=0.1)
    assert all(torch.equal(before[name], values) for name, values in vit.state_dict().items())
