"""A network keeps nothing from one call to the next: threads, replicas, functional transforms."""

import copy
import threading

import pytest
import torch
from torch.func import functional_call, grad, jacrev, vmap

from mmpvg.models import MPVGViT

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2)
OPTIONS = [
    dict(pe_delivery='mpvg'),
    dict(pe_delivery='lape', with_cls_token=True, num_registers=1),
    dict(window_size=3, global_blocks=(1,), gaussian_bias='head'),
    dict(window_size=3, relative_position='decomposed'),
    dict(relative_position='mlp', pe_type=None, pe_delivery='none'),
]


def build(fused=True, **options):
    torch.manual_seed(0)
    vit = MPVGViT(ARCH, img_size=32, patch_size=8, **options).eval()
    for block in vit.blocks:
        block.attn.fused = fused
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return vit


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_threads(options):
    vit = build(**options)
    generator = torch.Generator().manual_seed(1)
    sizes = [(8 * h, 8 * w) for h in (2, 3, 5) for w in (2, 4, 7)]
    images = [torch.rand(1, 3, *size, generator=generator) for size in sizes]
    with torch.no_grad():
        wanted = [vit(image)[0] for image in images]
    wrong = []

    def work(first):
        with torch.no_grad():
            for call in range(30):
                index = (first + call) % len(images)
                try:
                    if not torch.allclose(vit(images[index])[0], wanted[index], atol=1e-5):
                        wrong.append(index)
                except Exception as error:  # to be seen in the main thread
                    wrong.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_functional_gradients(options):
    """Gradients of torch.func against autograd's, of all images and image by image."""
    vit = build(**options).double()
    images = torch.rand(2, 3, 24, 40, dtype=torch.float64)
    params = {name: p.detach() for name, p in vit.named_parameters()}

    def loss(params, image):
        return functional_call(vit, params, (image[None],))[0].square().mean()

    of_each = vmap(grad(loss), in_dims=(None, 0))(params, images)
    for index, image in enumerate(images):
        wanted = torch.autograd.grad(vit(image[None])[0].square().mean(), list(vit.parameters()))
        found = grad(loss)(params, image)
        for (name, one), each in zip(found.items(), wanted):
            assert torch.allclose(one, each, atol=1e-10), name
            assert torch.allclose(of_each[name][index], each, atol=1e-10), name


def test_jacobian():
    vit = build(pe_delivery='mpvg').double()
    image = torch.rand(1, 3, 16, 24, dtype=torch.float64)

    def feature(x):
        return vit(x)[0].mean((0, 2, 3))

    found = jacrev(feature)(image)
    image.requires_grad_()
    for channel, value in enumerate(feature(image)):
        (wanted,) = torch.autograd.grad(value, image, retain_graph=True)
        assert torch.allclose(found[channel], wanted, atol=1e-10)


def test_replicas_share_nothing_that_changes():
    """What DataParallel replicates is a shallow copy of the module with other parameters."""
    vit = build(pe_delivery='mpvg')
    other = copy.copy(vit)
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        before = vit(image)[0]
        weights = {name: p + 0.1 for name, p in vit.named_parameters()}
        functional_call(other, weights, (image,))
        assert torch.equal(vit(image)[0], before)
