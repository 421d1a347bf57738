"""mmcv's RoIAlign behind the maps of our networks, against torchvision's."""

import pytest
import torch
import torchvision
from mmcv.ops import RoIAlign

from mmpvg.models import MPVGViT, MPVGViTAdapter, SimpleFeaturePyramid
from mmpvg.models.layers import LayerNorm2d

ARCH = dict(embed_dims=24, num_layers=4, num_heads=2)
NETWORKS = {
    'vit': lambda: MPVGViT(ARCH, img_size=48, window_size=2),
    **{
        f'adapter {norm["type"]}': lambda norm=norm: MPVGViTAdapter(
            ARCH, img_size=48, conv_channels=4, norm_cfg=norm
        )
        for norm in (
            dict(type='BN'),
            dict(type='GN', num_groups=4),
            dict(type='mmpvg.LayerNorm2d', eps=1e-6),
        )
    },
    'pyramid': lambda: torch.nn.Sequential(MPVGViT(ARCH, img_size=48), SimpleFeaturePyramid(24, 8)),
    'norm': lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 8, 16, 16), LayerNorm2d(8)),
}


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('name', NETWORKS)
def test_roi_align_reads_the_maps_as_torchvision_does(name, batch, channels_last):
    torch.manual_seed(0)
    network = NETWORKS[name]().double()
    image = torch.randn(batch, 3, 50, 77, dtype=torch.float64)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
        image = image.contiguous(memory_format=torch.channels_last)
    maps = network(image)
    # Index of the image, then corners in pixels; the last reaches over the edge.
    rois = [[0, 3.0, 5, 40, 44], [batch - 1, 20, 8, 75, 50], [batch - 1, -5, 10, 90, 60]]
    rois = torch.tensor(rois, dtype=torch.float64)
    for m in [maps] if isinstance(maps, torch.Tensor) else maps:
        assert m.is_contiguous()
        # mmcv holds the scale in float32.
        scale = m.shape[3] / 80
        pooled = RoIAlign(3, scale, sampling_ratio=2, aligned=True)(m, rois)
        expected = torchvision.ops.roi_align(m, rois, 3, scale, sampling_ratio=2, aligned=True)
        torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-4)
        weights = torch.randn_like(pooled)
        parameters = [p for p in network.parameters() if p.requires_grad]
        gradients = [
            torch.autograd.grad(
                (p * weights).sum(), parameters, retain_graph=True, allow_unused=True
            )
            for p in (pooled, expected)
        ]
        for got, wanted in zip(*gradients):
            assert (got is None) == (wanted is None)
            if got is not None:
                torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-3)
