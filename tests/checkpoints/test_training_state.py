"""What a run may resume from: the whole training state of its own model and optimizer."""

import pytest
import torch
from mmengine.model import BaseModel

from mmpvg.models import MPVGViT


class Net(BaseModel):
    def __init__(self, num_layers=3, img_size=16, **kwargs):
        super().__init__()
        arch = dict(embed_dims=24, num_layers=num_layers, num_heads=2)
        self.backbone = MPVGViT(arch, img_size, patch_size=8, **kwargs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        image = torch.stack(list(inputs))[:, :1, None, None].expand(-1, 3, 16, 16)
        return dict(loss=(self.backbone(image)[-1] - image[:, :1, :1, :1]).square().mean())


class InOrder(BaseModel):
    """Two layers of one shape, whose parameters come in the order of their names."""

    def __init__(self, names):
        super().__init__()
        for name in names:
            self.add_module(name, torch.nn.Linear(2, 2))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.a(self.b(torch.stack(list(inputs)))).square().mean())


@pytest.fixture
def run(tiny_run):
    def build(
        work_dir, epochs=1, resume=False, load_from=None, model=None, paramwise=None, **kwargs
    ):
        runner = tiny_run(work_dir, epochs)
        torch.manual_seed(0)
        runner.model = model or Net(**kwargs)
        optimizer = dict(type='AdamW', lr=0.1, weight_decay=0.01)
        runner.optim_wrapper.update(optimizer=optimizer, paramwise_cfg=paramwise)
        runner._resume, runner._load_from = resume, load_from
        return runner

    return build


def edit(path, change):
    content = torch.load(path, weights_only=False)
    change(content)
    torch.save(content, path)


def test_its_own_state_is_resumed(run, tmp_path):
    run(tmp_path / 'whole', epochs=2).train()
    run(tmp_path / 'parts').train()
    run(tmp_path / 'parts', epochs=2, resume=True).train()
    whole, parts = (
        torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)['state_dict']
        for name in ('whole', 'parts')
    )
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


@pytest.mark.parametrize(
    ('first', 'second', 'message'),
    [
        (dict(pe_delivery='mpvg'), dict(pe_delivery='lape'), 'it lacks backbone.pe_delivery'),
        (dict(pe_delivery='lape'), dict(pe_delivery='mpvg'), 'in addition backbone.pe_delivery'),
        (dict(img_size=16), dict(img_size=32), r'\(1, 2, 2, 24\) in place of \(1, 4, 4, 24\)'),
        (dict(num_layers=3), dict(num_layers=4), r'it lacks backbone.blocks.3.* and \d+ more'),
    ],
)
def test_another_model_is_refused(run, tmp_path, first, second, message):
    run(tmp_path / 'a', **first).train()
    path = tmp_path / 'a/epoch_1.pth'
    runner = run(tmp_path / 'b', 2, resume=True, load_from=str(path), **second)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    with pytest.raises(ValueError, match=f'cannot resume from {path}: .*{message}.*load_from='):
        runner.train()
    # Nothing was loaded.
    assert all(torch.equal(runner.model.state_dict()[name], v) for name, v in before.items())


def test_parameters_in_another_order_are_refused(run, tmp_path):
    """Names, shapes and numbers are equal; torch would give a's moments to b without a word."""
    run(tmp_path, model=InOrder('ab')).train()
    wanted = 'its optimizer has a.weight in place of b.weight, a.bias in place of b.bias'
    with pytest.raises(ValueError, match=wanted):
        run(tmp_path, 2, resume=True, model=InOrder('ba')).train()


def test_moments_of_another_shape_are_refused(run, tmp_path):
    """In a checkpoint of mmengine's own hook, which names no parameters."""
    run(tmp_path).train()

    def swap(content):
        del content['meta']['optimizer_parameters']
        state = content['optimizer']['state']
        state[0], state[1] = state[1], state[0]

    edit(tmp_path / 'epoch_1.pth', swap)
    with pytest.raises(ValueError, match='its optimizer has a state of shape .* and 1 more'):
        run(tmp_path, 2, resume=True).train()


@pytest.mark.parametrize('named', [True, False])
def test_other_groups_are_refused(run, tmp_path, named):
    run(tmp_path, paramwise=dict(norm_decay_mult=0.0)).train()
    if not named:
        edit(tmp_path / 'epoch_1.pth', lambda found: found['meta'].pop('optimizer_parameters'))
    with pytest.raises(ValueError, match=r'parameters in \d+ groups in place of \d+ in 1\.'):
        run(tmp_path, 2, resume=True).train()


@pytest.mark.parametrize('key', ['optimizer', 'message_hub', 'meta.iter'])
def test_a_part_of_the_state_is_refused(run, tmp_path, key):
    run(tmp_path).train()
    path = tmp_path / 'epoch_1.pth'

    def remove(content):
        del (content['meta'] if '.' in key else content)[key.split('.')[-1]]

    edit(path, remove)
    with pytest.raises(ValueError, match=f'it has no {key}, .*load_from={path} in place of'):
        run(tmp_path, 2, resume=True, load_from=str(path)).train()


def test_a_new_training_may_start_from_weights_of_another_model(run, tmp_path):
    run(tmp_path / 'a', pe_delivery='mpvg').train()
    path = str(tmp_path / 'a/epoch_1.pth')
    run(tmp_path / 'b', load_from=path, pe_delivery='lape').train()
    assert (tmp_path / 'b/epoch_1.pth').exists()
