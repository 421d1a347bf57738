"""MPVGViT: published parameter counts, equality with timm, the papers' equations, its outputs."""

import subprocess
import sys

import pytest
import timm
import torch
import torch.nn.functional as F

from mmpvg.models import MPVGViT
from mmpvg.models.layers import resize_position_embedding

TINY = dict(embed_dims=48, num_layers=4, num_heads=3)

# docs/papers.md, section 1: with a 1000-class linear head.
PUBLISHED = {
    ('deit-tiny', 'default'): 5_717_416,
    ('deit-tiny', 'lape'): 5_722_024,
    ('deit-tiny', 'pvg'): 5_721_256,
    ('deit-tiny', 'mpvg'): 5_721_640,
    ('deit-small', 'default'): 22_050_664,
    ('deit-small', 'lape'): 22_059_880,
    ('deit-small', 'pvg'): 22_058_344,
    ('deit-small', 'mpvg'): 22_059_112,
    ('deit-base', 'default'): 86_567_656,
    ('deit-base', 'lape'): 86_586_088,
    ('deit-base', 'pvg'): 86_583_016,
    ('deit-base', 'mpvg'): 86_584_552,
}


@pytest.mark.parametrize(('arch', 'delivery'), PUBLISHED)
def test_published_parameter_counts(arch, delivery):
    # The published tables have a class token for default and LaPE, none for PVG and MPVG.
    vit = MPVGViT(arch, pe_delivery=delivery, with_cls_token=delivery in ('default', 'lape'))
    head = torch.nn.Linear(vit.embed_dims, 1000)
    count = sum(p.numel() for module in (vit, head) for p in module.parameters())
    assert count == PUBLISHED[arch, delivery]


@pytest.mark.parametrize('cls_token', [True, False])
@pytest.mark.parametrize('size', [(224, 224), (384, 640), (1024, 512)])
def test_default_delivery_is_timms_vit(size, cls_token):
    torch.manual_seed(0)
    oracle = timm.create_model(
        'vit_tiny_patch16_224', img_size=size, num_classes=0, class_token=cls_token, global_pool=''
    ).eval()
    for param in oracle.parameters():
        torch.nn.init.normal_(param, std=0.05)
    vit = MPVGViT('deit-tiny', pe_delivery='default', with_cls_token=cls_token).eval()
    torch.nn.init.normal_(vit.position_embedding.table, std=0.05)
    if cls_token:
        torch.nn.init.normal_(vit.position_embedding.cls_row, std=0.05)
    state = {name: value for name, value in oracle.state_dict().items() if name != 'pos_embed'}
    missing, unexpected = vit.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith('position_embedding.') for name in missing)
    # timm is given the table our kernel resized: its own resize antialiases.
    grid = (size[0] // 16, size[1] // 16)
    with torch.no_grad():
        oracle.pos_embed.copy_(vit.position_embedding(grid))
        image = torch.randn(1, 3, *size)
        expected = oracle(image)[:, int(cls_token) :]
        (ours,) = vit(image)
    assert ours.shape == (1, 192, *grid)
    assert torch.allclose(ours.flatten(2).transpose(1, 2), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize('size', [(224, 224), (192, 320)])
def test_registers_and_layer_scale_are_timms(size):
    torch.manual_seed(0)
    oracle = timm.create_model(
        'vit_tiny_patch16_224',
        img_size=size,
        num_classes=0,
        reg_tokens=3,
        no_embed_class=True,
        init_values=0.1,
    ).eval()
    for param in oracle.parameters():
        torch.nn.init.normal_(param, std=0.05)
    vit = MPVGViT(
        'deit-tiny',
        img_size=size,
        pe_delivery='default',
        with_cls_token=True,
        num_registers=3,
        layer_scale_init_value=1.0,
        out_type='cls_token',
    ).eval()
    state = oracle.state_dict()
    grid = (size[0] // 16, size[1] // 16)
    state['position_embedding.table'] = state.pop('pos_embed').view(1, *grid, 192)
    # no_embed_class: a class token without a PE row is one whose row is zero.
    state['position_embedding.cls_row'] = torch.zeros(1, 1, 192)
    state['register_tokens'] = state.pop('reg_token')
    vit.load_state_dict(state)
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = oracle.forward_features(image)
        assert torch.allclose(vit(image)[0], expected[:, 0], atol=2e-4, rtol=1e-4)
        vit.out_type = 'featmap'
        tokens = vit(image)[0].flatten(2).transpose(1, 2)
        assert torch.allclose(tokens, expected[:, 4:], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(('name', 'arch'), [('small', 'deit-small'), ('base', 'deit-base')])
@pytest.mark.parametrize('size', [(224, 224), (144, 272)])
def test_relative_position_alone_is_timms_vit_relpos(name, arch, size):
    torch.manual_seed(0)
    oracle = timm.create_model(f'vit_relpos_{name}_patch16_224', img_size=size, num_classes=0)
    for parameter in oracle.parameters():
        torch.nn.init.normal_(parameter, std=0.04)
    vit = MPVGViT(
        arch,
        pe_type=None,
        pe_delivery='none',
        relative_position='mlp',
        qkv_bias=False,
        layer_scale_init_value=1e-6,
        final_norm=False,
    ).eval()
    state = {n: v for n, v in oracle.eval().state_dict().items() if not n.startswith('fc_norm')}
    vit.load_state_dict(state)
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected = oracle.forward_features(image)
        (ours,) = vit(image)
    assert torch.allclose(ours.flatten(2).transpose(1, 2), expected, atol=1e-3, rtol=1e-3)


def transcription(vit, image, delivery):
    """Equations of docs/papers.md, section 1, in plain functions, with global attention."""
    params = dict(vit.named_parameters())

    def ln(x, name):
        return F.layer_norm(x, x.shape[-1:], params[f'{name}.weight'], params[f'{name}.bias'], 1e-6)

    def linear(x, name):
        return F.linear(x, params[f'{name}.weight'], params[f'{name}.bias'])

    def msa(x, name):
        b, n, d = x.shape
        heads = vit.arch.num_heads
        q, k, v = (
            linear(x, f'{name}.qkv').reshape(b, n, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        )
        weights = (q @ k.transpose(-1, -2) / (d // heads) ** 0.5).softmax(-1)
        return linear((weights @ v).transpose(1, 2).reshape(b, n, d), f'{name}.proj')

    height, width = image.shape[2:]
    h, w = -(-height // 16), -(-width // 16)
    padded = torch.zeros(image.shape[0], 3, h * 16, w * 16)
    padded[:, :, :height, :width] = image
    patches = padded.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).flatten(3)
    kernel = params['patch_embed.proj.weight'].flatten(1)
    tokens = (patches @ kernel.T + params['patch_embed.proj.bias']).flatten(1, 2)
    table = params['position_embedding.table'].permute(0, 3, 1, 2)
    pos = F.interpolate(table, (h, w), mode='bicubic', align_corners=False)
    pos = pos.flatten(2).transpose(1, 2)

    x = tokens if delivery == 'lape' else tokens + pos
    p = pos
    for block in range(vit.arch.num_layers):
        y = ln(x, f'blocks.{block}.norm1')
        if delivery == 'lape' or (delivery in ('pvg', 'mpvg') and block >= 1):
            p = ln(p, f'pe_delivery.block_norms.{block}')
            y = y + p
        x = x + msa(y, f'blocks.{block}.attn')
        hidden = F.gelu(linear(ln(x, f'blocks.{block}.norm2'), f'blocks.{block}.mlp.fc1'))
        x = x + linear(hidden, f'blocks.{block}.mlp.fc2')
    x = ln(x, 'norm')
    if delivery == 'mpvg':
        x = x + ln(pos, 'pe_delivery.last_norm')
    return x.transpose(1, 2).reshape(image.shape[0], -1, h, w)


@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
@pytest.mark.parametrize('size', [(224, 224), (500, 333), (256, 1024)])
def test_deliveries_follow_their_equations(delivery, size, randomized):
    vit = randomized(arch=TINY, pe_delivery=delivery)
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = transcription(vit, image, delivery)
        assert torch.allclose(vit(image)[0], expected, atol=1e-4, rtol=1e-4)


def test_the_resize_comes_before_the_norms(randomized):
    """At a non-native grid LN(resize(pos)) and resize(LN(pos)) differ; we do the first."""
    vit = randomized(arch=TINY)
    grid = (31, 21)
    norm = vit.pe_delivery.block_norms['1']
    table = vit.position_embedding.table
    delivered = vit.pe_delivery(vit.position_embedding(grid)).blocks[1]
    norm_of_resized = norm(resize_position_embedding(table, grid)).flatten(1, 2)
    resized_norm = resize_position_embedding(norm(table), grid).flatten(1, 2)
    assert torch.allclose(delivered, norm_of_resized, atol=1e-6)
    difference = (delivered - resized_norm).norm() / delivered.norm()
    assert difference > 0.02
    native = vit.pe_delivery(vit.position_embedding((14, 14))).blocks[1]
    assert torch.allclose(native, norm(table).flatten(1, 2), atol=1e-6)


def test_16x64_is_not_32x32(randomized):
    """The PE is resized to another grid with as many tokens as the native one."""
    vit = randomized(arch=TINY, img_size=512)
    assert vit.position_embedding.grid == (32, 32)
    image = torch.randn(1, 3, 256, 1024)
    with torch.no_grad():
        expected = transcription(vit, image, 'mpvg')
        assert torch.allclose(vit(image)[0], expected, atol=1e-4, rtol=1e-4)
        unresized = vit.position_embedding.table.flatten(1, 2)
        assert not torch.allclose(vit.position_embedding((16, 64)), unresized, atol=1e-2)


@pytest.mark.parametrize('out_indices', [(1,), (0, 2), -2, (-3, -1)])
def test_nothing_is_built_that_the_outputs_do_not_use(out_indices, randomized):
    vit = randomized(arch=TINY, out_indices=out_indices).train()
    sum(m.square().sum() for m in vit(torch.randn(1, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.any() for p in vit.parameters())


def test_outputs_are_those_of_the_blocks(randomized):
    vit = randomized(arch=TINY, out_indices=(0, 2, 3))
    outputs = []
    for block in vit.blocks:
        block.register_forward_hook(lambda _, __, out: outputs.append(out))
    with torch.no_grad():
        maps = vit(torch.randn(2, 3, 100, 50))
    assert [tuple(m.shape) for m in maps] == [(2, 48, 7, 4)] * 3
    assert all(m.is_contiguous() for m in maps)
    for feature, block in zip(maps[:2], (0, 2)):
        assert torch.equal(feature.flatten(2).transpose(1, 2), outputs[block])
    assert not torch.equal(maps[2].flatten(2).transpose(1, 2), outputs[3]), 'the last norm is due'


def test_without_the_last_norm(randomized):
    vit = randomized(arch=TINY, final_norm=False)
    assert vit.norm is None and vit.pe_delivery.last_norm is None
    outputs = []
    vit.blocks[3].register_forward_hook(lambda _, __, out: outputs.append(out))
    (feature,) = vit(torch.randn(1, 3, 64, 64))
    assert torch.equal(feature.flatten(2).transpose(1, 2), outputs[0])


def test_class_token_takes_part_and_is_not_a_map(randomized):
    vit = randomized(arch=TINY, with_cls_token=True)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        (before,) = vit(image)
        vit.cls_token += torch.randn(48)
        (after,) = vit(image)
    assert before.shape == (1, 48, 4, 6)
    assert not torch.allclose(before, after)


def test_a_checkpoint_fits_another_resolution(tmp_path, randomized):
    source = randomized(arch=TINY, img_size=224)
    path = tmp_path / 'vit.pth'
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in source.state_dict().items()}}, path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    target = MPVGViT(TINY, img_size=(512, 320), init_cfg=init_cfg)
    target.init_weights()
    expected = resize_position_embedding(source.position_embedding.table, (32, 20))
    assert torch.equal(target.position_embedding.table, expected)
    assert torch.equal(target.blocks[3].mlp.fc2.weight, source.blocks[3].mlp.fc2.weight)


@pytest.mark.parametrize(
    ('shape', 'message'),
    [((1, 3, 15, 64), '15x64'), ((1, 4, 64, 64), r'\(1, 4, 64, 64\)'), ((3, 64, 64), r'\(3, 64')],
)
def test_bad_images(shape, message):
    with pytest.raises(ValueError, match=message):
        MPVGViT(TINY)(torch.zeros(shape))


@pytest.mark.slow
def test_backbone_needs_neither_mmdet_nor_mmseg():
    code = (
        'import sys\n'
        "blocked = ('mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'timm')\n"
        'class Block:\n'
        '    def find_spec(self, name, *args):\n'
        "        if name.split('.')[0] in blocked: raise ImportError(name)\n"
        'sys.meta_path.insert(0, Block())\n'
        'import torch\n'
        'from mmpvg.models import MPVGViT, SimpleFeaturePyramid\n'
        "maps = MPVGViT('deit-tiny')(torch.rand(1, 3, 64, 96))\n"
        "print([tuple(m.shape) for m in SimpleFeaturePyramid('deit-tiny')(maps)])\n"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith('(1, 256, 1, 2)]')


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
def test_autocast_on_a_gpu_is_close_to_float32(delivery, dtype):
    vit = MPVGViT('deit-tiny', window_size=14, pe_delivery=delivery).cuda().eval()
    image = torch.randn(1, 3, 500, 333, device='cuda')
    with torch.no_grad():
        expected = vit(image)[0]
        with torch.autocast('cuda', dtype):
            out = vit(image)[0]
    assert (out.float() - expected).norm() / expected.norm() < 0.02
