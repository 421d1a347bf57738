"""The files of detectors: ViTDet's of detectron2 and mmdet, and ViT-Adapter's."""

import pickle
import subprocess
import sys

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from mmpvg.checkpoints import PretrainedViT, backbone_arguments, read_weights, recognise
from mmpvg.models import MPVGViT, MPVGViTAdapter

ARCH = dict(embed_dims=48, num_layers=4, num_heads=3)
VITDET = dict(
    arch=ARCH, img_size=224, relative_position=dict(type='decomposed', grid=28), window_size=14,
    global_blocks=(3,), final_norm=False, pe_delivery='default',
)  # fmt: skip


@pytest.fixture(scope='module')
def vitdet():
    """The state dict of detectron2's ViT, and the function of an image that it is.

    timm's SAM is the same network but for its table, which lies on the image's grid and has no row
    for a class token. ViTDet's has 1 + 14x14 rows of a pre-training at 224, without the token.
    """
    torch.manual_seed(0)
    sam = timm.models.vision_transformer_sam.VisionTransformerSAM(
        img_size=448, embed_dim=48, depth=4, num_heads=3, num_classes=0, use_rel_pos=True,
        window_size=14, global_attn_indexes=(3,), neck_chans=8,
    ).eval()  # fmt: skip
    for parameter in sam.parameters():
        nn.init.normal_(parameter, std=0.2)
    sam.neck = nn.Identity()
    rows = torch.randn(1, 197, 48)
    patches = rows[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    table = F.interpolate(patches, (28, 28), mode='bicubic', align_corners=False)
    sam.pos_embed.data.copy_(table.permute(0, 2, 3, 1))
    return {**sam.state_dict(), 'pos_embed': rows}, sam.forward_features


def check_vitdet(file, expected, family='timm'):
    vit = MPVGViT(**VITDET).eval()
    report = PretrainedViT(file)(vit)
    assert report.family == family and not report.new
    assert report.heads == '3, as the source has'
    assert 'does not have' in report.ignored['pos_embed, row 0']
    image = torch.randn(1, 3, 448, 448)
    with torch.no_grad():
        assert torch.allclose(vit(image)[0], expected(image), atol=1e-4, rtol=1e-4)
    return report


def test_vitdet_of_mmdet(vitdet, tmp_path):
    state, expected = vitdet
    content = {f'backbone.{name}': value for name, value in state.items()}
    content |= {'neck.convs.0.weight': torch.zeros(1), 'rpn_head.rpn_conv.weight': torch.zeros(1)}
    file = str(tmp_path / 'vitdet.pth')
    torch.save(dict(state_dict=content, meta={}), file)
    report = check_vitdet(file, expected)
    assert report.ignored['neck.convs.0.weight'] == 'lies outside the backbone'
    arguments = backbone_arguments(recognise(read_weights(file), file))
    assert arguments == {
        **VITDET, 'arch': {**ARCH, 'mlp_ratio': 4.0}, 'patch_size': 16, 'in_channels': 3,
        'relative_position': dict(type='decomposed', grid=(28, 28)), 'global_blocks': [3],
        'with_cls_token': False,
        'num_registers': 0,
    }  # fmt: skip


def test_a_relative_position_of_another_size_is_refused(vitdet, tmp_path):
    file = str(tmp_path / 'vitdet.pth')
    torch.save(vitdet[0], file)
    other = dict(type='decomposed', grid=32)
    for arguments, side in ((dict(relative_position=other), 28), (dict(window_size=7), 14)):
        with pytest.raises(ValueError, match=f'it is for {side} patches along that axis'):
            PretrainedViT(file)(MPVGViT(**{**VITDET, **arguments}))


@pytest.mark.slow
def test_vitdet_of_detectron2_is_a_pickle_that_a_trusting_user_converts(vitdet, tmp_path):
    state, expected = vitdet
    content = {f'backbone.net.{name}': value.numpy() for name, value in state.items()}
    content['backbone.simfp_2.0.weight'] = torch.zeros(3).numpy()
    file = tmp_path / 'model final.pkl'
    file.write_bytes(pickle.dumps(dict(model=content, __author__='x'), protocol=2))
    with pytest.raises(ValueError, match='a pickle of objects, which may run anything') as raised:
        PretrainedViT(str(file))(MPVGViT(**VITDET))
    command = str(raised.value).split('once: ')[1]
    subprocess.run(command.replace('python', sys.executable, 1), shell=True, check=True)
    report = check_vitdet(str(file.with_suffix('.safetensors')), expected)
    assert report.ignored['backbone.simfp_2.0.weight'] == 'lies outside the backbone'


def deformable(dims, heads, levels, ratio):
    """The parameters of Deformable DETR's MSDeformAttn, as ViT-Adapter uses it."""
    values = int(dims * ratio)
    return nn.ModuleDict(dict(
        sampling_offsets=nn.Linear(dims, heads * levels * 4 * 2),
        attention_weights=nn.Linear(dims, heads * levels * 4),
        value_proj=nn.Linear(dims, values),
        output_proj=nn.Linear(values, dims),
    ))  # fmt: skip


def released_adapter(dims=48, inplanes=8, heads=3, ratio=0.5):
    """A network of ViT-Adapter's parameter names and shapes, beside its ViT."""

    def extractor():
        hidden = dims // 4
        ffn = nn.ModuleDict(dict(fc1=nn.Linear(dims, hidden), fc2=nn.Linear(hidden, dims)))
        convolution = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        ffn['dwconv'] = nn.ModuleDict(dict(dwconv=convolution))
        return nn.ModuleDict(dict(
            query_norm=nn.LayerNorm(dims), feat_norm=nn.LayerNorm(dims),
            attn=deformable(dims, heads, 1, ratio), ffn=ffn, ffn_norm=nn.LayerNorm(dims),
        ))  # fmt: skip

    def interaction(last):
        injector = nn.ModuleDict(dict(
            query_norm=nn.LayerNorm(dims), feat_norm=nn.LayerNorm(dims),
            attn=deformable(dims, heads, 3, ratio),
        ))  # fmt: skip
        injector.gamma = nn.Parameter(torch.zeros(dims))
        parts = nn.ModuleDict(dict(injector=injector, extractor=extractor()))
        if last:
            parts['extra_extractors'] = nn.Sequential(extractor(), extractor())
        return parts

    def convolutions(*sides):
        layers = []
        for before, after, stride in sides:
            layers += [
                nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
            ]  # fmt: skip
        return layers

    n = inplanes
    spm = nn.ModuleDict(dict(
        stem=nn.Sequential(*convolutions((3, n, 2), (n, n, 1), (n, n, 1)), nn.MaxPool2d(3, 2, 1)),
        conv2=nn.Sequential(*convolutions((n, 2 * n, 2))),
        conv3=nn.Sequential(*convolutions((2 * n, 4 * n, 2))),
        conv4=nn.Sequential(*convolutions((4 * n, 4 * n, 2))),
        fc1=nn.Conv2d(n, dims, 1), fc2=nn.Conv2d(2 * n, dims, 1),
        fc3=nn.Conv2d(4 * n, dims, 1), fc4=nn.Conv2d(4 * n, dims, 1),
    ))  # fmt: skip
    model = nn.ModuleDict(dict(
        spm=spm, interactions=nn.Sequential(*(interaction(i == 3) for i in range(4))),
        up=nn.ConvTranspose2d(dims, dims, 2, 2),
        **{f'norm{i}': nn.BatchNorm2d(dims) for i in (1, 2, 3, 4)},
    ))  # fmt: skip
    model.level_embed = nn.Parameter(torch.zeros(3, dims))
    torch.manual_seed(0)
    for value in model.state_dict().values():
        if value.is_floating_point():
            nn.init.uniform_(value, 0.1, 0.3)
    return model


def attend(part, query, feat, places, shapes, heads=3):
    """Deformable cross-attention of ViT-Adapter, with mmcv's reference of the sampling."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    count, levels = query.shape[1], len(shapes)
    normed, attn = part.query_norm(query), part.attn
    offsets = attn.sampling_offsets(normed).view(1, count, heads, levels, 4, 2)
    weights = attn.attention_weights(normed).view(1, count, heads, -1).softmax(-1)
    sides = torch.tensor(shapes)
    points = places[None, :, None, None, None] + offsets / sides.flip(1)[:, None]
    values = attn.value_proj(part.feat_norm(feat)).unflatten(2, (heads, -1))
    weights = weights.view(1, count, heads, levels, 4)
    return attn.output_proj(multi_scale_deformable_attn_pytorch(values, sides, points, weights))


def centers(shapes):
    """(cells, 2): x and y of every cell's center over the map's sides."""
    return torch.cat([
        torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w).flip(1)
        for h, w in shapes
    ])  # fmt: skip


def extract(part, c, x, levels, grid):
    """ViT-Adapter's extractor: the pyramid reads the ViT, then a convolutional MLP."""
    c = c + attend(part, c, x, centers(levels), [grid])
    hidden = part.ffn.fc1(part.ffn_norm(c))
    maps = [
        part.ffn.dwconv.dwconv(m.transpose(1, 2).unflatten(2, shape)).flatten(2).transpose(1, 2)
        for m, shape in zip(hidden.split([h * w for h, w in levels], dim=1), levels)
    ]
    return c + part.ffn.fc2(F.gelu(torch.cat(maps, dim=1)))


def run_released(adapter, vit, image):
    """ViT-Adapter's network (its segmentation code), on a square image of 64 pixels."""
    levels, grid = [(8, 8), (4, 4), (2, 2)], (4, 4)
    maps = [adapter.spm.stem(image)]
    for stage in (adapter.spm.conv2, adapter.spm.conv3, adapter.spm.conv4):
        maps.append(stage(maps[-1]))
    c1, *maps = [adapter.spm[f'fc{i}'](m) for i, m in enumerate(maps, 1)]
    tokens = [m.flatten(2).transpose(1, 2) + e for m, e in zip(maps, adapter.level_embed)]
    c, x, taps = torch.cat(tokens, dim=1), vit.patch_embed(image) + vit.pos_embed[:, 1:], []
    for block, part in zip(vit.blocks, adapter.interactions):
        injected = attend(part.injector, x, c, centers([grid]), levels)
        x = block(x + part.injector.gamma * injected)
        for extractor in (part.extractor, *getattr(part, 'extra_extractors', ())):
            c = extract(extractor, c, x, levels, grid)
        taps.append(x.transpose(1, 2).unflatten(2, grid))
    maps = [
        m.transpose(1, 2).unflatten(2, shape)
        for m, shape in zip(c.split([h * w for h, w in levels], dim=1), levels)
    ]
    maps = [c1 + adapter.up(maps[0]), *maps]
    return [
        adapter[f'norm{i + 1}'](
            m + F.interpolate(tap, scale_factor=scale, mode='bilinear', align_corners=False)
        )
        for i, (m, tap, scale) in enumerate(zip(maps, taps, (4, 2, 1, 0.5)))
    ]


def test_a_released_vit_adapter_gives_its_own_maps(make_timm, tmp_path):
    vit = timm.models.vision_transformer.VisionTransformer(
        img_size=64, embed_dim=48, depth=4, num_heads=3, num_classes=0, init_values=1.0
    ).eval()
    adapter = released_adapter().eval()
    torch.manual_seed(1)
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.2)
    for module in adapter.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    # Its ViT has neither class token nor last norm, but the class token's row of the table.
    state = {
        name.replace('ls1.gamma', 'gamma1').replace('ls2.gamma', 'gamma2'): value
        for name, value in vit.state_dict().items()
        if not name.startswith(('norm.', 'cls_token'))
    }
    state.update(adapter.state_dict())
    content = {f'backbone.{name}': value for name, value in state.items()}
    content['decode_head.conv_seg.weight'] = torch.zeros(2)
    torch.save(dict(state_dict=content, meta={}), tmp_path / 'adapter.pth')
    backbone = MPVGViTAdapter(
        ARCH, conv_channels=8, deform_ratio=0.5, norm_cfg=dict(type='BN'), img_size=64,
        pe_delivery='default', layer_scale_init_value=1.0,
    ).eval()  # fmt: skip
    report = PretrainedViT(str(tmp_path / 'adapter.pth'))(backbone)
    assert report.family == 'ViT-Adapter' and not report.new and not report.resized
    assert set(report.ignored) == {'decode_head.conv_seg.weight', 'pos_embed, row 0'}
    assert set(report.loaded) == set(backbone.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(backbone(image), run_released(adapter, vit, image)):
            assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r'layer_scale_init_value=1\.0'):
        PretrainedViT(str(tmp_path / 'adapter.pth'))(
            MPVGViTAdapter(
                ARCH, conv_channels=8, deform_ratio=0.5, img_size=64, layer_scale_init_value=None
            )
        )
