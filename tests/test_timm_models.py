"""Models with timm's interface: sizes, weights in both forms, timm's optimizer, a training."""

import subprocess
import sys
from argparse import Namespace

import pytest
import timm
import torch
from sklearn.datasets import load_digits
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2, param_groups_layer_decay, param_groups_weight_decay
from timm.utils import CheckpointSaver, ModelEmaV3

import mmpvg.timm_models
from mmpvg.checkpoints import PretrainedViT
from mmpvg.models import MPVGViT
from mmpvg.models.backbones import PlainViT
from mmpvg.timm_models import TimmMPVGViT

# docs/papers.md, section 1.
PUBLISHED = {
    ('tiny', 'default'): 5_717_416, ('tiny', 'lape'): 5_722_024,
    ('tiny', 'pvg'): 5_721_256, ('tiny', 'mpvg'): 5_721_640,
    ('small', 'default'): 22_050_664, ('small', 'lape'): 22_059_880,
    ('small', 'pvg'): 22_058_344, ('small', 'mpvg'): 22_059_112,
    ('base', 'default'): 86_567_656, ('base', 'lape'): 86_586_088,
    ('base', 'pvg'): 86_583_016, ('base', 'mpvg'): 86_584_552,
}  # fmt: skip
TINY = dict(arch=dict(embed_dims=48, num_layers=3, num_heads=3), num_classes=10, img_size=64)


def make(delivery='mpvg', **kwargs):
    torch.manual_seed(0)
    return timm.create_model(f'{delivery}_vit_tiny_patch16_224', **{**TINY, **kwargs})


@pytest.mark.parametrize(('size', 'delivery'), PUBLISHED)
def test_published_parameter_counts(size, delivery):
    model = timm.create_model(f'{delivery}_vit_{size}_patch16_224')
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[size, delivery]


def test_they_are_listed_and_configured():
    names = [f'{d}_vit_{s}_patch16_224' for s, d in PUBLISHED]
    assert set(names) <= set(timm.list_models('*vit*'))
    assert set(timm.list_models(module='entrypoints')) == set(names)
    config = timm.data.resolve_model_data_config(make(img_size=224))
    assert config['input_size'] == (3, 224, 224) and config['crop_pct'] == 0.9
    assert config['interpolation'] == 'bicubic'
    assert config['mean'] == timm.data.IMAGENET_DEFAULT_MEAN


@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
@pytest.mark.parametrize('size', [(64, 64), (80, 48)])
def test_weights_pass_between_both_forms_unchanged(delivery, size, tmp_path):
    model = make(delivery).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    cls_token = delivery in ('default', 'lape')
    vit = MPVGViT(TINY['arch'], 64, pe_delivery=delivery, with_cls_token=cls_token).eval()
    missing, unexpected = vit.load_state_dict(model.state_dict(), strict=False)
    assert not missing and set(unexpected) == {'head.weight', 'head.bias'}
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        tokens = model.forward_features(image)[:, int(cls_token) :]
        assert torch.equal(vit(image)[0].flatten(2).transpose(1, 2), tokens)
    back = make(delivery)
    assert not back.load_state_dict(vit.state_dict(), strict=False).unexpected_keys
    # As timm saves it, through PretrainedViT.
    torch.save({'state_dict': model.state_dict(), 'arch': 'x', 'epoch': 3}, tmp_path / 'last.pth')
    other = MPVGViT(TINY['arch'], 64, pe_delivery=delivery, with_cls_token=cls_token).eval()
    report = PretrainedViT(str(tmp_path / 'last.pth'))(other)
    assert not report.new
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), vit.parameters()))
    # And through timm's own reading.
    loaded = make(delivery, checkpoint_path=str(tmp_path / 'last.pth')).eval()
    with torch.no_grad():
        assert torch.equal(loaded(image), model(image))


@pytest.mark.parametrize('pool', ['token', 'avg', 'gem', 'ggem'])
def test_heads_and_pools(pool):
    model = make('lape', global_pool=pool).eval()
    image = torch.randn(2, 3, 64, 80)
    vector = model.forward_head(model.forward_features(image), pre_logits=True)
    assert vector.shape == (2, model.num_features) and model(image).shape == (2, 10)
    assert torch.equal(model.get_classifier()(vector), model(image))
    model.reset_classifier(7, 'avg')
    assert model(image).shape == (2, 7) and model.num_classes == 7
    model.reset_classifier(0)
    expected = model.forward_features(image)[:, 1:].mean(1)
    assert torch.allclose(model(image), expected)


def test_what_timms_training_script_saves_starts_a_backbone(tmp_path):
    model = make(global_pool='ggem')
    torch.nn.init.normal_(model.position_embedding.table)
    saver = CheckpointSaver(
        model, create_optimizer_v2(model, 'adamw', lr=1e-3), model_ema=ModelEmaV3(model),
        args=Namespace(model='mpvg_vit_tiny_patch16_224', opt_betas=None),
        checkpoint_dir=str(tmp_path), recovery_dir=str(tmp_path),
    )  # fmt: skip
    saver.save_checkpoint(0, metric=1.0)
    vit = MPVGViT(TINY['arch'], 64)
    assert not PretrainedViT(str(tmp_path / 'last.pth.tar'))(vit).new
    saved = model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in vit.state_dict().items())


def test_timms_weight_decay_spares_what_ours_spares():
    model = make('lape', global_pool='ggem')
    spared, decayed = param_groups_weight_decay(
        model, weight_decay=0.05, no_weight_decay_list=model.no_weight_decay()
    )
    assert (spared['weight_decay'], decayed['weight_decay']) == (0.0, 0.05)
    decayed = {id(parameter) for parameter in decayed['params']}
    names = {n for n, p in model.named_parameters() if id(p) in decayed}
    matrices = {n for n, p in model.named_parameters() if p.ndim > 1}
    assert names == {n for n in matrices if not n.startswith(('position_embedding', 'cls_token'))}
    optimizer = create_optimizer_v2(model, 'adamw', lr=1e-3, weight_decay=0.05)
    grouped = [p for group in optimizer.param_groups for p in group['params']]
    assert len(grouped) == len(list(model.parameters()))


def test_weight_decay_without_a_position_embedding():
    model = TimmMPVGViT(**TINY, pe_type=None)
    assert model.no_weight_decay() == {'cls_token', 'register_tokens'}
    optimizer = create_optimizer_v2(model, 'adamw', lr=1e-3, weight_decay=0.05)
    decayed = {id(p) for g in optimizer.param_groups if g['weight_decay'] for p in g['params']}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert names == {name for name, p in model.named_parameters() if p.ndim > 1}


def test_timms_layer_decay_agrees_on_depths():
    model = make()
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scale = {names[id(p)]: group['lr_scale'] for group in groups for p in group['params']}
    assert set(scale) == set(names.values())
    for one, same in [
        ('blocks.1.norm1.weight', 'pe_delivery.block_norms.1.weight'),
        ('blocks.2.mlp.fc1.weight', 'pe_delivery.block_norms.2.bias'),
        ('norm.weight', 'pe_delivery.last_norm.weight'),
        ('patch_embed.proj.weight', 'position_embedding.table'),
    ]:
        assert scale[one] == scale[same]
    depths = {name: model.get_layer_depth(name)[0] for name in scale if 'head' not in name}
    for name, depth in depths.items():
        assert scale[name] == scale['blocks.0.norm1.weight'] * 2.0 ** (depth - 1), name


def test_a_short_training_with_timms_parts():
    digits = load_digits()
    images = torch.tensor(digits.images[:256], dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target[:256])
    model = make(img_size=8, patch_size=2, in_chans=1, drop_path_rate=0.1, global_pool='ggem')
    model.set_grad_checkpointing()
    average = ModelEmaV3(model, decay=0.9)
    optimizer = create_optimizer_v2(model, 'adamw', lr=2e-3, weight_decay=0.05, layer_decay=0.9)
    losses = []
    for _ in range(20):
        loss = LabelSmoothingCrossEntropy()(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        average.update(model)
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert average.module(images).shape == (256, 10)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(pretrained=True), 'no pre-trained weights of mpvg_vit_tiny'),
        (dict(features_only=True), 'MPVGViT'),
        (dict(global_pool='max'), "'max'.*token, avg, gem, ggem"),
        (dict(global_pool='token'), 'needs a class token'),
        (dict(global_pool=''), "''.*token, avg, gem, ggem"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_it_has_the_arguments_of_the_plain_vit_and_no_others():
    assert isinstance(make(), PlainViT) and not isinstance(make(), MPVGViT)
    for argument in ('out_indices', 'final_norm', 'num_blocks', 'last_norm'):
        with pytest.raises(TypeError, match=f"keyword argument '{argument}'"):
            TimmMPVGViT(**TINY, **{argument: 1})


def test_a_plain_vit_starts_a_classifier(tmp_path):
    vit = MPVGViT(TINY['arch'], 64)
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    model = make(global_pool='ggem')
    head = model.head.weight.clone()
    report = PretrainedViT(str(tmp_path / 'vit.pth'))(model)
    assert set(report.new) == {'head.weight', 'head.bias', 'pool.p'}
    assert torch.equal(model.head.weight, head)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in vit.state_dict().items())


@pytest.mark.slow
def test_a_script_of_timm_runs_with_our_models(tmp_path):
    (tmp_path / 'helper.py').write_text('WORD = "found"\n')
    script = tmp_path / 'train.py'
    script.write_text(
        'import sys, timm, helper\n'
        'if __name__ == "__main__":\n'
        '    print(sys.argv[1:], helper.WORD, timm.is_model("mpvg_vit_base_patch16_224"))\n'
    )
    command = [sys.executable, '-m', 'mmpvg.timm_models']
    done = subprocess.run([*command, script, '--lr', '1'], capture_output=True, text=True)
    assert done.stdout.strip() == "['--lr', '1'] found True", done.stderr
    done = subprocess.run([*command, 'nowhere.py'], capture_output=True, text=True)
    assert done.returncode == 1 and 'usage: ' in done.stderr


@pytest.mark.slow
def test_without_timm_the_error_says_what_to_install():
    code = 'import sys; sys.modules["timm"] = None; import mmpvg.timm_models'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert 'pip install timm' in done.stderr.splitlines()[-1]
    code = 'import sys, mmpvg.models; assert "timm" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], check=True)
    assert mmpvg.timm_models.default_cfgs
