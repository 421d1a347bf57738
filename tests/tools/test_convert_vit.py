"""The converter keeps the whole network and tells which backbone that is."""

import subprocess
import sys

import pytest
import timm
import torch
from mmengine.registry import MODELS

from mmpvg.checkpoints import PretrainedViT


def convert(repo, *arguments):
    return subprocess.run(
        [sys.executable, repo / 'tools/model_converters/convert_vit.py', *map(str, arguments)],
        capture_output=True, text=True, cwd=repo,
        env={'PYTHONPATH': str(repo), 'PATH': ''},
    )  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'size', 'suffix'),
    [
        ('vit_tiny_patch16_224', (160, 224), '.pth'),
        ('deit_tiny_distilled_patch16_224', (224, 224), '.safetensors'),
    ],
)
def test_the_printed_backbone_computes_what_the_source_does(repo, tmp_path, name, size, suffix):
    torch.manual_seed(0)
    model = timm.create_model(name, img_size=size).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    source, out = tmp_path / 'source.pth', tmp_path / f'out{suffix}'
    torch.save(model.state_dict(), source)
    grid = (size[0] // 16, size[1] // 16)
    done = convert(repo, source, out, '--grid', *grid)
    assert done.returncode == 0, done.stderr
    assert 'loaded' in done.stdout and f'wrote {out}' in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith('backbone = ')]
    arguments = eval(line.split('=', 1)[1], {'dict': dict})
    assert arguments['arch'] == 'deit-tiny'
    vit = MODELS.build(arguments).eval()
    report = PretrainedViT(str(out))(vit)
    assert not report.new and not report.ignored and not report.resized
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected = model.forward_features(image)
        ours = vit(image)[0]
    if isinstance(expected, tuple):
        pytest.fail('timm gave two heads, not tokens')
    expected = expected[:, model.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid)
    assert torch.allclose(ours, expected, atol=2e-4, rtol=1e-4)


def test_looking_without_writing_and_errors(repo, tmp_path):
    file = tmp_path / 'x.pth'
    torch.save({'layer1.0.conv1.weight': torch.ones(1)}, file)
    done = convert(repo, file)
    assert done.returncode == 1 and 'a ResNet' in done.stderr
    done = convert(repo, file, tmp_path / 'out.onnx')
    assert done.returncode == 2 and 'out.onnx' in done.stderr
