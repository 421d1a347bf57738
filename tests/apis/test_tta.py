"""What ``--tta`` makes of a config."""

import pytest
from mmengine.config import Config

from mmpvg.apis.tta import use_tta


def test_a_config_without_settings_gets_mirror_images(repo):
    cfg = Config.fromfile(repo / 'configs/mask_rcnn_vit_mpvg.py')
    cfg.pop('tta_model'), cfg.pop('tta_pipeline')
    cfg.test_evaluator = [cfg.test_evaluator]
    use_tta(cfg)
    assert cfg.model.type == 'DetTTAModel' and cfg.model.module.type == 'MaskRCNN'
    assert cfg.model.module.roi_head.mask_head is None
    assert cfg.test_evaluator[0].metric == 'bbox'
    last = cfg.test_dataloader.dataset.pipeline[-1]
    assert last.type == 'TestTimeAug'
    assert [flip.prob for flip in last.transforms[0]] == [1.0, 0.0]


def test_single_stage_detectors_are_served():
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=dict(type='RetinaNet'),
            test_dataloader=dict(dataset=dict(dataset=dict(pipeline=[dict(type='Pack')]))),
            test_evaluator=dict(type='CocoMetric', metric='bbox'),
        )
    )
    use_tta(cfg)
    assert cfg.model.module.type == 'RetinaNet'
    assert cfg.test_dataloader.dataset.dataset.pipeline[-1].type == 'TestTimeAug'


def test_a_segmenter_without_settings_is_refused(repo):
    cfg = Config.fromfile(repo / 'configs/upernet_vit_mpvg.py')
    cfg.pop('tta_pipeline')
    with pytest.raises(ValueError, match='--tta needs tta_pipeline'):
        use_tta(cfg)
