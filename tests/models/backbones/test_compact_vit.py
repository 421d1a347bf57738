"""CompactViT against ViT-Lite's equations written out, its counts, its initial values."""

import pytest
import torch
import torch.nn.functional as F

from mmpvg.checkpoints import PretrainedViT
from mmpvg.models import CompactViT, MPVGViT

SMALL = dict(embed_dims=32, num_layers=3, num_heads=2, mlp_ratio=2.0)
DELIVERIES = ('default', 'lape', 'pvg', 'mpvg')

# docs/papers.md, section 1: ViT-Lite-7/4 with a head of 100 classes.
PUBLISHED = dict(default=3_740_004, lape=3_743_588, pvg=3_742_564, mpvg=3_743_076)


def as_published(delivery, **kwargs):
    """With a class token for the default delivery and LaPE, without one for PVG and MPVG."""
    cls_token = delivery in ('default', 'lape')
    return CompactViT(pe_delivery=delivery, with_cls_token=cls_token, **kwargs)


def randomized(delivery, **kwargs):
    torch.manual_seed(0)
    vit = as_published(delivery, arch=SMALL, **kwargs).double().eval()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return vit


def transcription(state, image, delivery, heads=2, depth=3, patch=4, native=8):
    """ViT-Lite step by step from its weights, LayerNorm by its definition (eps 1e-5)."""

    def norm(x, name):
        centered = x - x.mean(-1, keepdim=True)
        scaled = centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * state[f'{name}.weight'] + state[f'{name}.bias']

    def attention(x, name):
        batch, tokens, width = x.shape
        q, k, v = (x @ state[f'{name}.qkv.weight'].T).split(width, dim=2)
        out = torch.empty_like(x)
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            logits = q[..., part] @ k[..., part].transpose(1, 2) * (width // heads) ** -0.5
            out[..., part] = logits.softmax(-1) @ v[..., part]
        return out @ state[f'{name}.proj.weight'].T + state[f'{name}.proj.bias']

    def mlp(x, name):
        hidden = F.gelu(x @ state[f'{name}.fc1.weight'].T + state[f'{name}.fc1.bias'])
        return hidden @ state[f'{name}.fc2.weight'].T + state[f'{name}.fc2.bias']

    grid = image.shape[2] // patch, image.shape[3] // patch
    kernel, bias = state['patch_embed.proj.weight'], state['patch_embed.proj.bias']
    x = F.conv2d(image, kernel, bias, stride=patch).flatten(2).transpose(1, 2)
    pos = state['position_embedding.table'].permute(0, 3, 1, 2)
    if grid != (native, native):
        pos = F.interpolate(pos, size=grid, mode='bicubic', align_corners=False)
    pos = pos.flatten(2).transpose(1, 2)
    if 'cls_token' in state:
        x = torch.cat([state['cls_token'].expand(len(x), -1, -1), x], dim=1)
        pos = torch.cat([state['position_embedding.cls_row'], pos], dim=1)
    p = pos
    if delivery != 'lape':
        x = x + pos
    for block in range(depth):
        y = norm(x, f'blocks.{block}.norm1')
        if delivery == 'lape' or (delivery in ('pvg', 'mpvg') and block):
            p = norm(p, f'pe_delivery.block_norms.{block}')
            y = y + p
        x = x + attention(y, f'blocks.{block}.attn')
        # The residual stream itself, and the skip connection of the MLP starts after it.
        x = norm(x, f'blocks.{block}.stream_norm')
        x = x + mlp(x, f'blocks.{block}.mlp')
    x = norm(x, 'norm')
    return x + norm(pos, 'pe_delivery.last_norm') if delivery == 'mpvg' else x


@pytest.mark.parametrize('size', [(32, 32), (24, 44)])
@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('delivery', DELIVERIES)
def test_is_vit_lite(delivery, batch, size):
    vit = randomized(delivery)
    image = torch.randn(batch, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        (tokens,), grid = vit.forward_tokens(image)
        expected = transcription(vit.state_dict(), image, delivery)
    assert grid == (size[0] // 4, size[1] // 4)
    torch.testing.assert_close(tokens, expected)


@pytest.mark.parametrize('delivery', DELIVERIES)
def test_published_parameter_counts(delivery):
    head = torch.nn.Linear(256, 100)
    parameters = [*as_published(delivery).parameters(), *head.parameters()]
    assert sum(parameter.numel() for parameter in parameters) == PUBLISHED[delivery]


def test_initial_values_and_eps():
    torch.manual_seed(0)
    vit = CompactViT(with_cls_token=True, img_size=64)
    assert vit.position_embedding.table.std().item() == pytest.approx(0.2, rel=0.05)
    # He's: variance 2 / fan-in.
    kernel = vit.patch_embed.proj.weight
    assert kernel.std().item() == pytest.approx((2 / 48) ** 0.5, rel=0.05)
    assert vit.blocks[0].attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not vit.cls_token.any()
    norms = [module for module in vit.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert len(norms) == 2 * 7 + 1 + 6 + 1
    assert {norm.eps for norm in norms} == {1e-5}


@pytest.mark.parametrize('delivery', DELIVERIES)
def test_every_parameter_receives_a_gradient(delivery):
    vit = randomized(delivery, attn_drop_rate=0.1, drop_path_rate=0.1).train()
    (tokens,), _ = vit.forward_tokens(torch.randn(4, 3, 32, 20, dtype=torch.float64))
    tokens.square().sum().backward()
    without = [name for name, p in vit.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert {vit.get_layer_depth(f'blocks.{b}.stream_norm.weight')[0] for b in range(3)} == {1, 2, 3}


def test_weights_of_a_pre_norm_vit_do_not_load(tmp_path):
    arguments = dict(arch=SMALL, img_size=32, patch_size=4)
    compact, plain = CompactViT(SMALL), MPVGViT(**arguments, eps=1e-5, qkv_bias=False)
    for vit, file in ((compact, 'compact.pth'), (plain, 'plain.pth')):
        torch.save(vit.state_dict(), tmp_path / file)
    with pytest.raises(ValueError, match="set its type='mmpvg.MPVGViT'"):
        PretrainedViT(str(tmp_path / 'plain.pth'))(compact)
    with pytest.raises(ValueError, match="set its type='mmpvg.CompactViT'"):
        PretrainedViT(str(tmp_path / 'compact.pth'))(plain)
    other = CompactViT(SMALL)
    PretrainedViT(str(tmp_path / 'compact.pth'))(other)
    for name, value in other.state_dict().items():
        assert torch.equal(value, compact.state_dict()[name]), name


@pytest.mark.parametrize('argument', [dict(qkv_bias=True), dict(layer_scale_init_value=1e-5)])
def test_bad_arguments(argument):
    with pytest.raises(ValueError, match=f'has no {next(iter(argument))}.*MPVGViT'):
        CompactViT(**argument)
