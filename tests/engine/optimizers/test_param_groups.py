"""The table of parameter groups: hand-made cases, and the tool on real configs."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmpvg.engine.optimizers.param_groups import format_param_groups, kinds, param_group_rows
from mmpvg.models import MPVGViT

TINY = dict(embed_dims=48, num_layers=2, num_heads=3)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = MPVGViT(TINY)
        self.head = nn.Linear(48, 2)


def test_a_hand_made_case():
    model = Model()
    model.backbone.patch_embed.requires_grad_(False)
    stem = [model.backbone.position_embedding.table]
    rest = [p for p in model.parameters() if p.requires_grad and p is not stem[0]]
    optimizer = torch.optim.AdamW(
        [dict(params=stem, lr=0.25, weight_decay=0.0), dict(params=rest)], lr=1.0, weight_decay=0.1
    )
    rows = param_group_rows(model, optimizer)
    assert [(row.depth, row.lr, row.weight_decay) for row in rows] == [
        (0, 0.25, 0.0), (0, None, None), (1, 1.0, 0.1), (2, 1.0, 0.1), (3, 1.0, 0.1),
    ]  # fmt: skip
    assert rows[0].names == ['backbone.position_embedding.table']
    assert rows[1].names == ['backbone.patch_embed.proj.weight', 'backbone.patch_embed.proj.bias']
    assert rows[4].names[-2:] == ['head.weight', 'head.bias']
    assert sum(row.values for row in rows) == sum(p.numel() for p in model.parameters())
    table = format_param_groups(rows, optimizer.defaults['lr']).splitlines()
    assert table[2].startswith('| 0 | 0.25 | 0.25 | 0 | 1 | 9,408 |')
    assert '| 0 | frozen | - | - | 2 |' in table[3]


def test_lost_doubled_and_foreign_parameters_are_named():
    model = Model()
    parameters = dict(model.named_parameters())
    lost = parameters.pop('head.weight')
    with pytest.raises(ValueError, match=r'1 parameters.*head.weight \(in 0\)'):
        param_group_rows(model, torch.optim.SGD(parameters.values(), lr=1))
    with pytest.warns(UserWarning, match='duplicate'):
        twice = torch.optim.SGD([*parameters.values(), lost, lost], lr=1)
    twice.param_groups.append(dict(params=[lost], lr=1))
    with pytest.raises(ValueError, match='head.weight'):
        param_group_rows(model, twice)
    foreign = torch.optim.SGD([*model.parameters(), nn.Parameter(torch.ones(1))], lr=1)
    with pytest.raises(ValueError, match='1 parameters are not of the model'):
        param_group_rows(model, foreign)


def test_all_that_is_lost_is_named():
    model = Model()
    lost = [name for name, _ in model.named_parameters() if '.blocks.0.' in name]
    kept = [p for name, p in model.named_parameters() if name not in lost]
    with pytest.raises(ValueError, match=f'^{len(lost)} parameters') as caught:
        param_group_rows(model, torch.optim.SGD(kept, lr=1))
    assert len(lost) > 5 and all(f'{name} (in 0)' in str(caught.value) for name in lost)


@pytest.mark.parametrize('paramwise', [None, dict(norm_decay_mult=0.0)])
def test_frozen_parameters_that_mmengine_hands_over_are_frozen(paramwise):
    model = Model()
    model.backbone.patch_embed.requires_grad_(False)
    cfg = dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1), paramwise_cfg=paramwise)
    rows = param_group_rows(model, build_optim_wrapper(model, cfg).optimizer)
    (frozen,) = [row for row in rows if row.lr is None]
    assert frozen.names == ['backbone.patch_embed.proj.weight', 'backbone.patch_embed.proj.bias']


def test_a_model_without_depths():
    model = nn.Linear(2, 2)
    (row,) = param_group_rows(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert row.depth is None and row.weight_decay == 0
    assert '| - | 0.1 | 1 | 0 | 2 | 6 |' in format_param_groups([row], 0.1)


def test_a_raised_rate_is_shown_over_that_of_the_optimizer():
    model = Model()
    cfg = dict(
        constructor='mmpvg.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1),
        paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
    )
    optimizer = build_optim_wrapper(model, cfg).optimizer
    table = format_param_groups(param_group_rows(model, optimizer), optimizer.defaults['lr'])
    assert '| 3 | 0.01 | 10 | 0.1 | 1 | 96 | head.* |' in table
    assert '| 0 | 0.001 | 1 | 0.1 | 1 | 36,864 | backbone.patch_embed.* |' in table


def test_names_are_joined():
    names = ['backbone.blocks.3.norm1.weight', 'backbone.blocks.3.norm1.bias', 'head.fc.bias']
    names += ['backbone.norm.bias', 'backbone.cls_token', 'image_encoder.0.norm.weight']
    assert kinds(names) == (
        'backbone.blocks.3.*, head.*, backbone.norm.*, backbone.cls_token, image_encoder.0.norm.*'
    )


@pytest.mark.parametrize(
    ('config', 'delivery', 'first', 'count'),
    [
        ('upernet_vit_mpvg', 'mpvg', '| 0 | 6.16e-05 | 0.513 | 0.01 |', 224),
        ('mask_rcnn_vit_mpvg', 'mpvg', '| 0 | 0.0001 | 1 | 0.05 |', 231),
        ('classification/vit-t_default_8xb128-300e_in1k', 'lape', '| 0 | 0.001 | 1 | 0.05 |', 177),
        ('sample/retriever_vit_mpvg-ggem_sample', None, '| 0 | 0.0005 | 1 | 0.05 |', 91),
    ],
)
def test_the_tool_prints_the_table(run_tool, repo, capsys, config, delivery, first, count):
    tool = 'analysis_tools/print_param_groups.py'
    options = ['--cfg-options', f'model.backbone.pe_delivery={delivery}'] if delivery else []
    run_tool(tool, repo / f'configs/{config}.py', '--show-all', *options)
    table = capsys.readouterr().out
    assert first in table
    assert f'\n{count} parameters with ' in table
    assert sum(line.startswith('depth ') for line in table.splitlines()) == count
