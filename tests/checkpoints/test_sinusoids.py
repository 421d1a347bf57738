"""LaPE's fixed sinusoids, in the layout of its code, go into ``pe_type='sinusoid_*'``."""

import math

import pytest
import torch

from mmpvg.checkpoints import PretrainedViT, backbone_arguments, read_weights, recognise
from mmpvg.models import MPVGViT

DIMS, SIDE = 48, 4


def lape_1d(num_rows):
    """(rows, D), without a batch axis as LaPE saves it: sines in even channels, cosines in odd."""
    angles = [
        [p / 10000 ** (2 * (i // 2) / DIMS) for i in range(DIMS)] for p in range(num_rows)
    ]  # fmt: skip
    return torch.tensor([
        [math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(row)] for row in angles
    ])  # fmt: skip


def lape_2d(interleaved=True):
    """(1, 1 + h*w, D): zeros for the class token, then half the channels each for x and y."""
    half = DIMS // 2
    table = torch.zeros(1, 1 + SIDE * SIDE, DIMS)
    for y in range(SIDE):
        for x in range(SIDE):
            for axis, place in enumerate((x, y)):
                for i in range(half // 2):
                    angle = place / 10000 ** (2 * i / half)
                    sine, cosine = (2 * i, 2 * i + 1) if interleaved else (i, half // 2 + i)
                    row = table[0, 1 + y * SIDE + x]
                    row[axis * half + sine] = math.sin(angle)
                    row[axis * half + cosine] = math.cos(angle)
    return table


@pytest.fixture
def saved(make_timm, tmp_path):
    """A ViT of timm's with a sinusoid, and its file with the table as it is given."""

    def save(table):
        model = make_timm()
        model.pos_embed.data.copy_(table)
        file = str(tmp_path / 'lape.pth')
        torch.save({'model': {**model.state_dict(), 'pos_embed': table}}, file)
        return model, file

    return save


@pytest.mark.parametrize(
    ('pe_type', 'table'), [('sinusoid_1d', lape_1d(17)), ('sinusoid_2d', lape_2d())]
)
def test_a_sinusoid_of_lape_gives_its_features(saved, make_vit, pe_type, table):
    model, file = saved(table)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        tokens = model.forward_features(image)[:, 1:]
    for kept in (pe_type, 'learnable'):
        vit = make_vit(pe_type=kept)
        report = PretrainedViT(file)(vit)
        with torch.no_grad():
            ours = vit(image)[0].flatten(2).transpose(1, 2)
        assert torch.allclose(ours, tokens, atol=1e-4, rtol=1e-4)
        assert ('computes itself' in str(report)) == (kept == pe_type)
        # A table that is kept does not show that its grid is 4x4; a sinusoid that is equal does.
        assert ['4x4' in note for note in report.notes] == [True] * (kept == 'learnable')
    arguments = backbone_arguments(recognise(read_weights(file), file), num_heads=3)
    assert arguments['pe_type'] == pe_type and arguments['with_cls_token']
    MPVGViT(**arguments)
    # In half precision it is the same.
    model, file = saved(table.half())
    PretrainedViT(file)(make_vit(pe_type=pe_type))


def test_lapes_own_delivery(make_vit, tmp_path):
    source = make_vit(pe_delivery='lape', pe_type='sinusoid_2d')
    state = {
        name.replace('pe_delivery.block_norms', 'blocks').replace('.weight', '.pe_norm.weight')
        .replace('.bias', '.pe_norm.bias') if 'block_norms' in name else name: value
        for name, value in source.state_dict().items()
    }  # fmt: skip
    torch.save({'model': {**state, 'pos_embed': lape_2d()}}, tmp_path / 'lape.pth')
    vit = make_vit(pe_delivery='lape', pe_type='sinusoid_2d')
    report = PretrainedViT(str(tmp_path / 'lape.pth'))(vit)
    assert report.family == 'LaPE' and not report.new
    image = torch.rand(1, 3, 64, 96)
    assert torch.equal(vit(image)[0], source(image)[0])


@pytest.mark.parametrize(
    ('table', 'arguments', 'message'),
    [
        (torch.randn(1, 17, DIMS), {}, "learned position embedding.*set pe_type='learnable'"),
        (lape_2d(interleaved=False), {}, "MoCo v3's are ordered otherwise"),
        (
            lape_1d(17),
            {},
            "sinusoid_1d of 4x4 patches and a class token.*set pe_type='sinusoid_1d'",
        ),
        (lape_2d(), dict(img_size=96), r'sinusoid_2d of 4x4 .*img_size=\(64, 64\)'),
        (
            lape_1d(17),
            dict(pe_type='sinusoid_1d', with_cls_token=False),
            'and a class token.*with_cls_token=True',
        ),
    ],
)
def test_any_other_table_is_refused(saved, make_vit, table, arguments, message):
    _, file = saved(table)
    with pytest.raises(ValueError, match=message):
        PretrainedViT(file)(make_vit(**{'pe_type': 'sinusoid_2d', **arguments}))


def test_a_zero_class_row_is_left_out_with_its_token(saved, make_vit):
    _, file = saved(lape_2d())
    report = PretrainedViT(file)(make_vit(pe_type='sinusoid_2d', with_cls_token=False))
    assert 'with_cls_token=False' in report.ignored['cls_token']
