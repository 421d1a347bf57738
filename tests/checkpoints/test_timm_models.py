"""Every ViT-like entry point of timm is read into its own features, or refused with the reason."""

import copy

import pytest
import timm
import torch

from mmpvg.checkpoints import Weights, backbone_arguments, fit, recognise
from mmpvg.checkpoints.timm_models import weights_of
from mmpvg.models import MPVGViT

# Without ours, which other tests register.
NAMES = sorted(
    name
    for name in {n for p in ('*vit*', '*deit*', 'eva*', 'beit*') for n in timm.list_models(p)}
    if timm.model_entrypoint(name).__module__.startswith('timm.')
)


def shrink(name):
    """A small model of timm's with weights to which features are sensitive, or None."""
    kwargs = dict(embed_dim=48, depth=3, num_heads=3, num_classes=5)
    if 'samvit' in name:
        # Its windows are 14 a side; at other grids timm pads them.
        kwargs.update(global_attn_indexes=(2,), img_size=448)
    else:
        kwargs.update(img_size=56 if 'patch14' in name else 64)
    for attempt in (kwargs, {k: v for k, v in kwargs.items() if k != 'img_size'}):
        try:
            model = timm.create_model(name, **attempt).eval()
            break
        except (TypeError, RuntimeError, ValueError, AssertionError):
            continue
    else:
        return None
    generator = torch.Generator().manual_seed(0)
    for param_name, param in model.named_parameters():
        param.data.normal_(std=0.3, generator=generator)
        if 'norm' in param_name and param_name.endswith('weight'):
            param.data.add_(1)
    return model


def difference(model, weights, label):
    """Features of timm's model and of ours with its weights, at its own size."""
    source = recognise(weights, label)
    vit = MPVGViT(**backbone_arguments(source)).eval()
    vit.load_state_dict(fit(source, vit)[0])
    sides = [side * vit.patch_embed.patch_size for side in weights.grid]
    image = torch.randn(1, 3, *sides, generator=torch.Generator().manual_seed(1))
    if hasattr(model, 'neck'):
        model.neck = torch.nn.Identity()
    with torch.no_grad():
        theirs, (ours,) = model.forward_features(image), vit(image)
    if theirs.ndim == 3:
        patches = theirs[:, -weights.grid[0] * weights.grid[1] :]
        theirs = patches.transpose(1, 2).unflatten(2, weights.grid)
    return ((theirs - ours).norm() / theirs.norm()).item()


def structure(model):
    """Equal for small models that are the same network, such as those of two sizes of a ViT."""
    plain = (bool, int, float, str, tuple, type(None))
    settings = [
        {key: value for key, value in vars(module).items() if isinstance(value, plain)}
        for module in model.modules()
    ]
    return repr((model, settings, list(model.state_dict())))


@pytest.mark.slow
def test_every_vit_of_timm_is_equal_or_refused():
    read, noted, refused, others, shrunk, done = {}, {}, {}, {}, set(), {}
    for name in NAMES:
        module = timm.model_entrypoint(name).__module__
        if module in others and module not in shrunk:
            continue
        model = shrink(name)
        if model is None:
            others[module] = name
            continue
        shrunk.add(module)
        built = structure(model)
        if built in done:
            results, same = done[built]
            value = results[same]
            results[name] = value.replace(same, name) if results is refused else value
            continue
        try:
            weights = weights_of(copy.deepcopy(model), name)
        except ValueError as error:
            results, value = refused, str(error)
        else:
            results = noted if weights.notes else read
            value = difference(model, weights, name)
        results[name] = value
        done[built] = results, name
    assert max(read.values()) < 1e-5, max(read, key=read.get)
    assert max(noted.values()) < 1e-3
    assert all('siglip' in name for name in noted), noted
    # What people start from is among them; what leaves no trace in names is not.
    for name in (
        'deit_tiny_patch16_224', 'deit_base_distilled_patch16_384', 'deit3_small_patch16_224',
        'vit_base_patch16_224', 'vit_small_patch14_reg4_dinov2', 'vit_base_patch16_gap_224',
        'vit_relpos_base_patch16_224', 'samvit_base_patch16', 'vit_so400m_patch14_reg1_tipsv2',
    ):  # fmt: skip
        assert name in read
    unlike = {name for name, why in refused.items() if 'features of MPVGViT differ' in why}
    assert unlike == {n for n in NAMES if '_rpn_' in n or 'patch16_rope_ape_' in n}
    assert all(name in why and '\n' not in why for name, why in refused.items())
    # Networks of several stages, whose sizes are not arguments: their names alone refuse them.
    for name in others.values():
        with torch.device('meta'):
            model = timm.create_model(name)
        with pytest.raises(ValueError, match=name):
            weights_of(model, name)


def test_a_file_that_may_norm_after_its_branches_gets_a_note():
    noted = []
    for name in ('deit_tiny', 'vit_base', 'vit_relpos_base', 'vit_medium'):
        for full in timm.list_models(f'{name}_patch16_*'):
            model = shrink(full)
            if model is None:
                continue
            try:
                source = recognise(Weights(model.state_dict()), full)
            except ValueError:
                continue
            noted += [full] if any('norm after' in note for note in source.notes) else []
    assert noted == [
        'vit_base_patch16_rpn_224',
        'vit_relpos_base_patch16_rpn_224',
    ]


def test_our_own_network_in_timms_form():
    import mmpvg.timm_models  # noqa: F401

    arch = dict(embed_dims=48, num_layers=3, num_heads=3)
    model = timm.create_model('mpvg_vit_tiny_patch16_224', arch=arch, img_size=64)
    source = recognise(weights_of(model, 'x'), 'x')
    vit = MPVGViT(arch, img_size=64)
    state, report = fit(source, vit)
    assert not report.new and torch.equal(state['norm.weight'], model.state_dict()['norm.weight'])
