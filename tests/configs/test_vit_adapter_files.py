"""ViT-Adapter's configs, transcribed from its published files, against ours, value by value.

The files are those of github.com/czczup/ViT-Adapter, in detection/configs/{mask_rcnn,cascade_rcnn}
and segmentation/configs/ade20k, with the _base_ files, defaults of ``ViTAdapter`` and parameter
rules that they use. What differs on purpose is in DEPARTURES, with the reason in docs/recipes.md.
"""

import copy
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
TINY = dict(embed_dim=192, num_heads=3, drop_path_rate=0.1, pretrained='deit_tiny')
SMALL = dict(embed_dim=384, num_heads=6, drop_path_rate=0.2, pretrained='deit_small')
BACKBONE = dict(
    patch_size=16,
    depth=12,
    mlp_ratio=4,
    conv_inplane=64,
    n_points=4,
    deform_num_heads=6,
    cffn_ratio=0.25,
    deform_ratio=1.0,
    interaction_indexes=[[0, 2], [3, 5], [6, 8], [9, 11]],
    layer_scale_init_value=1.0,  # gamma1 and gamma2 start from ones
    norm_eps=1e-6,
    pretrain_size=224,
)
SCALES = [(side, 1333) for side in range(480, 801, 32)]
RANGE = dict(type='RandomCrop', crop_type='absolute_range', allow_negative_crop=True)
MULTI_SCALE = [
    dict(type='RandomFlip', prob=0.5),
    [
        [dict(type='Resize', scales=SCALES)],
        [
            dict(type='Resize', scales=[(400, 1333), (500, 1333), (600, 1333)]),
            dict(RANGE, crop_size=(384, 600)),
            dict(type='Resize', scales=SCALES),
        ],
    ],
    dict(RANGE, crop_size=(1024, 1024)),
]
DETECTION = dict(
    BACKBONE,
    vit_feature='last',
    window_size=[14, 14, None] * 4,
    neck=dict(type='FPN', out_channels=256, num_outs=5),
    strides=[4, 8, 16, 32, 64],
    pad_size_divisor=32,
    batch=16,
    epochs=36,
    steps=[27, 33],
    warmup=(500, 0.001),
    optimizer=('AdamW', 1e-4, (0.9, 0.999), 0.05),
    grad_clip=None,
    layer_decay_rate=1.0,
    fp16=None,
    train=MULTI_SCALE,
    test=[dict(type='Resize', scale=(1333, 800), keep_ratio=True)],
)
SINGLE_SCALE = dict(
    DETECTION,
    epochs=12,
    steps=[8, 11],
    train=[
        dict(type='Resize', scale=(1333, 800), keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
    ],
)
SEGMENTATION = dict(
    BACKBONE,
    vit_feature='each',
    window_size=[None] * 12,
    neck=None,
    decode_head=('UPerHead', 512, (1, 2, 3, 6), 0.1, 1.0),
    auxiliary_head=('FCNHead', 256, 2, 0.1, 0.4),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
    batch=16,
    iterations=160000,
    poly=(1.0, 0.0),
    warmup=(1500, 1e-6),
    grad_clip=None,
    layer_decay_rate=0.95,
    fp16=512,
    train=[
        dict(type='Resize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
    ],
    test=[
        dict(type='Resize', scale=(2048, 512), keep_ratio=True),
        dict(type='ResizeToMultiple', size_divisor=32),
    ],
)
CASCADE_STDS = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
FILES = {
    'mask_rcnn/mask_rcnn_vit-adapter-t_mpvg_8xb1-ms-3x_coco': dict(DETECTION, **TINY),
    'mask_rcnn/mask_rcnn_vit-adapter-s_mpvg_8xb2-ms-3x_coco': dict(DETECTION, **SMALL),
    'mask_rcnn/mask_rcnn_vit-adapter-t_mpvg_8xb2-1x_coco': dict(
        SINGLE_SCALE, **TINY, optimizer=('AdamW', 2e-4, (0.9, 0.999), 0.01)
    )
    | dict(layer_scale_init_value=None),
    'mask_rcnn/mask_rcnn_vit-adapter-s_mpvg_8xb2-1x_coco': dict(SINGLE_SCALE, **SMALL),
    'cascade_mask_rcnn/cascade_mask_rcnn_vit-adapter-s_mpvg_8xb2-ms-3x_coco': dict(
        DETECTION,
        **SMALL,
        bbox_heads=[
            ('ConvFCBBoxHead', 4, 1, stds, False, True, 'SyncBN', 'GIoULoss', 10.0)
            for stds in CASCADE_STDS
        ],
        stages=([1, 0.5, 0.25], [0.5, 0.6, 0.7]),
        rpn=('SmoothL1Loss', 1 / 9, 0, 2000),
    )
    | dict(fp16=512),
    'upernet/upernet_vit-adapter-t_mpvg_8xb1-160k_ade20k-512x512': dict(
        SEGMENTATION, **TINY, optimizer=('AdamW', 12e-5, (0.9, 0.999), 0.01)
    ),
    'upernet/upernet_vit-adapter-s_mpvg_8xb2-160k_ade20k-512x512': dict(
        SEGMENTATION, **SMALL, optimizer=('AdamW', 6e-5, (0.9, 0.999), 0.01)
    ),
}
# The MPVG paper trains both Ti rows with a total batch of 8.
DEPARTURES = {
    ('mask_rcnn/mask_rcnn_vit-adapter-t_mpvg_8xb1-ms-3x_coco', 'batch'): 8,
    ('upernet/upernet_vit-adapter-t_mpvg_8xb1-160k_ade20k-512x512', 'batch'): 8,
}


@lru_cache
def read(row):
    cfg = Config.fromfile(CONFIGS / f'{row}.py')
    init_default_scope(cfg.default_scope)
    return cfg, MODELS.build(copy.deepcopy(cfg.model))


def backbone_fields(cfg, backbone):
    block, interaction = backbone.blocks[-1], backbone.interactions[0]
    attention = interaction.injector.attn
    dims = backbone.embed_dims
    norms = [*backbone.blocks.modules(), *backbone.interactions.modules()]
    (eps,) = {m.eps for m in norms if type(m).__name__ == 'LayerNorm'}
    pretrained = backbone.init_cfg['checkpoint'].removeprefix('timm://').split('_patch16_224')[0]
    scales = [set(ls.gamma.tolist()) for ls in (block.ls1, block.ls2) if hasattr(ls, 'gamma')]
    windows = [block.attn.window_size or None for block in backbone.blocks]
    return dict(
        patch_size=backbone.patch_embed.proj.kernel_size[0],
        embed_dim=dims,
        depth=len(backbone.blocks),
        num_heads=backbone.arch.num_heads,
        mlp_ratio=block.mlp.fc1.out_features / dims,
        drop_path_rate=block.drop_path.rate,
        conv_inplane=backbone.spatial_prior.stem[0].out_channels,
        n_points=attention.num_points,
        deform_num_heads=attention.num_heads,
        cffn_ratio=interaction.extractors[0].mlp.fc1.out_features / dims,
        deform_ratio=attention.value_proj.out_features / dims,
        interaction_indexes=[list(group) for group in backbone.interaction_indexes],
        layer_scale_init_value=scales[0].pop() if scales else None,
        norm_eps=eps,
        pretrain_size=16 * backbone.position_embedding.grid[0],
        vit_feature=backbone.vit_maps,
        window_size=windows,
        pretrained=pretrained,
    )


def step_fields(step):
    """A step of a pipeline in the words of the files."""
    if step['type'] == 'RandomChoice':
        return [[step_fields(inner) for inner in steps] for steps in step['transforms']]
    fields = dict(step)
    if step['type'] == 'RandomChoiceResize':
        assert fields.pop('keep_ratio')
        fields.update(type='Resize', scales=[tuple(scale) for scale in step['scales']])
    elif step['type'] == 'RandomResize':
        fields['type'] = 'Resize'
    return fields


def training_fields(cfg, model):
    wrapper, optimizer = cfg.optim_wrapper, cfg.optim_wrapper.optimizer
    warmup = cfg.param_scheduler[0]
    around = ('LoadImageFromFile', 'LoadAnnotations', 'mmpvg.CheckLoaded', 'PackDetInputs')
    steps = {
        split: [
            step_fields(step)
            for step in cfg[f'{split}_dataloader'].dataset.pipeline
            if step['type'] not in (*around, 'PackSegInputs')
        ]
        for split in ('train', 'test')
    }
    return dict(
        batch=cfg.auto_scale_lr.base_batch_size,
        optimizer=tuple(optimizer[key] for key in ('type', 'lr', 'betas', 'weight_decay')),
        grad_clip=wrapper.get('clip_grad'),
        layer_decay_rate=wrapper.paramwise_cfg.get('layer_decay_rate', 1.0),
        fp16=wrapper.loss_scale['init_scale'] if wrapper.type == 'AmpOptimWrapper' else None,
        warmup=(warmup.end - 1, warmup.start_factor),
        **steps,
    )


def detector_fields(cfg, model):
    neck, head = cfg.model.neck, model.roi_head
    fields = dict(
        neck={key: neck[key] for key in ('type', 'out_channels', 'num_outs')},
        strides=[stride[0] for stride in model.rpn_head.prior_generator.strides],
        pad_size_divisor=model.data_preprocessor.pad_size_divisor,
        epochs=cfg.train_cfg.max_epochs,
        steps=cfg.param_scheduler[1].milestones,
    )
    if type(model).__name__ == 'CascadeRCNN':
        keys = ('type', 'num_shared_convs', 'num_shared_fcs')
        loss, train = cfg.model.rpn_head.loss_bbox, cfg.model.train_cfg
        fields.update(
            bbox_heads=[
                (*(h[key] for key in keys), h.bbox_coder.target_stds, h.reg_class_agnostic,
                 h.reg_decoded_bbox, h.norm_cfg.type, h.loss_bbox.type, h.loss_bbox.loss_weight)
                for h in cfg.model.roi_head.bbox_head
            ],
            stages=(head.stage_loss_weights, [s.assigner.pos_iou_thr for s in train.rcnn]),
            rpn=(loss.type, loss.beta, train.rpn.allowed_border, train.rpn_proposal.max_per_img),
        )  # fmt: skip
    return fields


def segmenter_fields(cfg, model):
    head, auxiliary, poly = cfg.model.decode_head, cfg.model.auxiliary_head, cfg.param_scheduler[1]
    return dict(
        neck=cfg.model.neck,
        decode_head=(head.type, head.channels, head.pool_scales, head.dropout_ratio,
                     head.loss_decode.loss_weight),
        auxiliary_head=(auxiliary.type, auxiliary.channels, auxiliary.in_index,
                        auxiliary.dropout_ratio, auxiliary.loss_decode.loss_weight),
        test_cfg=dict(cfg.model.test_cfg),
        iterations=cfg.train_cfg.max_iters,
        poly=(poly.power, poly.eta_min),
    )  # fmt: skip


@lru_cache
def ours(row):
    cfg, model = read(row)
    special = segmenter_fields if row.startswith('upernet') else detector_fields
    return {
        **backbone_fields(cfg, model.backbone),
        **training_fields(cfg, model),
        **special(cfg, model),
    }


@pytest.mark.parametrize(('row', 'field'), [(row, field) for row in FILES for field in FILES[row]])
def test_every_value_is_the_files(row, field):
    assert ours(row)[field] == DEPARTURES.get((row, field), FILES[row][field])


@pytest.mark.parametrize('row', FILES)
def test_no_value_of_ours_is_left_unread(row):
    assert set(ours(row)) == set(FILES[row])


@pytest.mark.parametrize('row', [row for row in FILES if row.startswith('upernet')])
def test_images_are_resized_to_a_multiple_and_not_padded(row):
    """``ResizeToMultiple``: sides round up, bilinear. The network then sees no padding."""
    cfg, model = read(row)
    init_default_scope(cfg.default_scope)
    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    results = dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
    load, *steps, annotations, pack = cfg.test_dataloader.dataset.pipeline
    assert (load.type, annotations.type) == ('LoadImageFromFile', 'LoadAnnotations')
    for step in steps:
        results = TRANSFORMS.build(dict(step)).transform(results)
    expected = cv2.resize(cv2.resize(image, (683, 512)), (704, 512))
    assert np.array_equal(results['img'], expected)
    packed = TRANSFORMS.build(dict(pack)).transform({**results, 'img_path': '', 'seg_map_path': ''})
    batch = model.data_preprocessor(
        dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
    )
    assert batch['inputs'].shape == (1, 3, 512, 704)
    assert not any(batch['data_samples'][0].img_padding_size)
    # So it is with test-time augmentation.
    assert [steps[-1]] in [list(choices) for choices in cfg.tta_pipeline[1].transforms]
