"""Segmenter's decoders against its authors' code, segm/model/{decoder,blocks}.py, written out."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

CONFIGS = Path(__file__).resolve().parents[3] / 'configs' / 'segmenter'
DIMS, CLASSES, HEADS = 48, 7, 3


def decoder(kind, **small):
    """The decoder of a config, built and initialized; small ones have few channels."""
    cfg = Config.fromfile(CONFIGS / f'segmenter-{kind}_vit-t_mpvg_8xb1-160k_ade20k-512x512.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    head = MODELS.build({**copy.deepcopy(cfg.model.decode_head), **small})
    head.init_weights()
    return head


def small_mask_decoder():
    return decoder(
        'mask', in_channels=DIMS, channels=DIMS, embed_dims=DIMS, num_heads=HEADS,
        num_classes=CLASSES,
    )  # fmt: skip


def mask_transformer(x, p):
    """The forward pass of their MaskTransformer in eval mode, on tokens (B, N, D)."""

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], p[f'{name}.weight'], p[f'{name}.bias'], eps=1e-5)

    def attention(x, name):
        b, n, c = x.shape
        qkv = F.linear(x, p[f'{name}.qkv.weight'], p[f'{name}.qkv.bias'])
        q, k, v = qkv.reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (c // HEADS) ** -0.5).softmax(dim=-1)
        out = (weights @ v).transpose(1, 2).reshape(b, n, c)
        return F.linear(out, p[f'{name}.proj.weight'], p[f'{name}.proj.bias'])

    x = F.linear(x, p['proj_dec.weight'], p['proj_dec.bias'])
    x = torch.cat((x, p['cls_emb'].expand(x.shape[0], -1, -1)), 1)
    for block in ('blocks.0', 'blocks.1'):
        x = x + attention(norm(x, f'{block}.norm1'), f'{block}.attn')
        hidden = F.linear(
            norm(x, f'{block}.norm2'), p[f'{block}.mlp.fc1.weight'], p[f'{block}.mlp.fc1.bias']
        )
        x = x + F.linear(F.gelu(hidden), p[f'{block}.mlp.fc2.weight'], p[f'{block}.mlp.fc2.bias'])
    x = norm(x, 'decoder_norm')
    patches, classes = x[:, :-CLASSES] @ p['proj_patch'], x[:, -CLASSES:] @ p['proj_classes']
    patches = patches / patches.norm(dim=-1, keepdim=True)
    classes = classes / classes.norm(dim=-1, keepdim=True)
    return norm(patches @ classes.transpose(1, 2), 'mask_norm')


def their_names(state):
    """mmseg's weights under the names of Segmenter's code."""
    p = {}
    for name, value in state.items():
        for ours, theirs in (
            ('layers.', 'blocks.'), ('.ln1.', '.norm1.'), ('.ln2.', '.norm2.'),
            ('attn.attn.in_proj_', 'attn.qkv.'), ('attn.attn.out_proj.', 'attn.proj.'),
            ('ffn.blocks.0.0.', 'mlp.fc1.'), ('ffn.blocks.1.', 'mlp.fc2.'),
            ('dec_proj.', 'proj_dec.'),
        ):  # fmt: skip
            name = name.replace(ours, theirs)
        p[name] = value
    # Theirs are matrices that multiply from the right.
    p['proj_patch'] = p.pop('patch_proj.weight').T
    p['proj_classes'] = p.pop('classes_proj.weight').T
    return p


def test_the_mask_decoder_is_segmenters():
    head = small_mask_decoder().eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    feature = torch.randn(2, DIMS, 5, 8)
    with torch.no_grad():
        masks = head((feature,))
        expected = mask_transformer(
            feature.flatten(2).transpose(1, 2), their_names(head.state_dict())
        )
    assert masks.shape == (2, CLASSES, 5, 8)
    assert torch.allclose(masks.flatten(2).transpose(1, 2), expected, atol=2e-4, rtol=1e-4)


def test_the_mask_decoder_drops_what_segmenters_does():
    """Dropout 0.1 on attention weights, after both projections of a block and inside its MLP."""
    head = small_mask_decoder()
    for layer in head.layers:
        assert layer.attn.attn.dropout == layer.attn.proj_drop.p == 0.1
        rates = [m.p for m in layer.ffn.modules() if isinstance(m, torch.nn.Dropout)]
        assert rates == [0.1, 0.1]
    # No stochastic depth, and no dropout before the masks.
    kinds = {type(m).__name__ for m in head.modules()}
    assert 'DropPath' not in kinds and head.dropout is None


@pytest.mark.parametrize('kind', ['mask', 'linear'])
def test_initial_values_are_segmenters(kind):
    head = decoder(kind)
    if kind == 'linear':
        expected = {'conv_seg.weight': 0.02}
    else:
        expected = {name: 0.02 for name, p in head.named_parameters() if p.ndim > 1}
        expected['patch_proj.weight'] = expected['classes_proj.weight'] = 192**-0.5
        assert len(expected) == 1 + 2 * 4 + 3
    for name, parameter in head.named_parameters():
        if name in expected:
            values = parameter.detach()
            assert values.std().item() == pytest.approx(expected[name], rel=0.03), name
            assert values.mean().abs() < 0.05 * expected[name], name
            # A normal distribution has a kurtosis of 3, a uniform one of 1.8.
            kurtosis = ((values - values.mean()) ** 4).mean() / values.var() ** 2
            assert kurtosis.item() == pytest.approx(3, abs=0.2), name
        else:
            constant = 1.0 if parameter.ndim == 1 and name.endswith('weight') else 0.0
            assert (parameter == constant).all(), name


@pytest.mark.parametrize('kind', ['mask', 'linear'])
def test_the_loss_is_the_mean_over_labeled_pixels(kind):
    head = decoder(kind)
    logits = torch.randn(2, 150, 4, 6)
    labels = torch.randint(0, 150, (2, 4, 6))
    labels[0, :2] = 255
    ours = head.loss_decode(logits, labels, ignore_index=255)
    assert ours.item() == pytest.approx(F.cross_entropy(logits, labels, ignore_index=255).item())
