"""Training on damaged data; the study itself is benchmarks/robustness/damage.py."""

import pytest

from benchmarks.robustness.damage_study import run_damage_study

OPTIONS = (
    'train_dataloader.batch_size=4',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.save_best=None',
    'val_cfg=None',
    'val_dataloader=None',
    'val_evaluator=None',
)


@pytest.mark.slow
@pytest.mark.parametrize(
    'task, config, options',
    [
        ('detection', 'mask_rcnn_vit_mpvg_sample.py', ['train_cfg.max_epochs=1']),
        ('segmentation', 'upernet_vit_mpvg_sample.py', ['train_cfg.max_iters=6']),
    ],
)
def test_training_goes_on(repo, sample_data, tmp_path, task, config, options):
    config = repo / 'configs/sample' / config
    result = run_damage_study(config, task, sample_data, tmp_path / 'run', 11, (*OPTIONS, *options))
    assert result.exit_code == 0, result.last_line
    assert (result.damaged, result.found, result.invented) == (11, 11, 0)
    assert result.replaced == result.to_replace > 4
    assert result.losses > 4 and result.not_finite == 0


@pytest.mark.slow
def test_labels_outside_the_classes_stop(repo, sample_data, tmp_path):
    config = repo / 'configs/sample/upernet_vit_mpvg_sample.py'
    result = run_damage_study(
        config,
        'segmentation',
        sample_data,
        tmp_path / 'run',
        11,
        (*OPTIONS, 'train_cfg.max_iters=6'),
        kinds=['label outside'],
    )
    assert result.exit_code == 2 and result.found == 11
    assert 'has the labels [76], but there are 6 classes' in result.last_line
