"""The converter keeps the whole network and names its backbone."""

import pytest
import timm
import torch
from mmengine.registry import MODELS

from mmpvg.checkpoints import PretrainedViT

TOOL = 'model_converters/convert_vit.py'


@pytest.mark.parametrize(
    ('name', 'size', 'suffix'),
    [
        ('vit_tiny_patch16_224', (160, 224), '.pth'),
        ('deit_tiny_distilled_patch16_224', (224, 224), '.safetensors'),
    ],
)
def test_the_printed_backbone_computes_what_the_source_does(
    run_tool, capsys, tmp_path, name, size, suffix
):
    torch.manual_seed(0)
    model = timm.create_model(name, img_size=size).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    source, out = tmp_path / 'source.pth', tmp_path / f'out{suffix}'
    torch.save(model.state_dict(), source)
    grid = (size[0] // 16, size[1] // 16)
    run_tool(TOOL, source, out, '--grid', *grid)
    printed = capsys.readouterr().out
    assert 'loaded' in printed and f'wrote {out}' in printed
    (line,) = [line for line in printed.splitlines() if line.startswith('backbone = ')]
    arguments = eval(line.split('=', 1)[1], {'dict': dict})
    assert arguments['arch'] == 'vit-tiny'
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


def test_looking_without_writing_and_errors(run_tool, capsys, tmp_path):
    file = tmp_path / 'x.pth'
    torch.save({'layer1.0.conv1.weight': torch.ones(1)}, file)
    for arguments, expected in (((), 'a ResNet'), ((tmp_path / 'out.onnx',), 'out.onnx')):
        with pytest.raises(SystemExit) as ended:
            run_tool(TOOL, file, *arguments)
        assert ended.value.code == 2 and expected in capsys.readouterr().err


def test_heads_that_no_file_has_are_assumed_and_can_be_given(run_tool, capsys, tmp_path):
    """MoCo v3's ViT-S has 12 heads, DeiT's of the same parts 6."""
    file = tmp_path / 'moco.pth'
    state = timm.create_model('vit_small_patch16_224', num_heads=12, depth=12).state_dict()
    torch.save(dict(state_dict={f'module.base_encoder.{n}': v for n, v in state.items()}), file)
    run_tool(TOOL, file)
    printed = capsys.readouterr().out
    assert (
        "heads    6, taken from this backbone's arch" in printed and "arch='vit-small'" in printed
    )
    assert 'the number of heads is assumed: pass --num-heads' in printed
    run_tool(TOOL, file, '--num-heads', 12)
    printed = capsys.readouterr().out
    assert 'heads    12, as the source has' in printed and "'num_heads': 12" in printed
    assert 'assumed' not in printed
