default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='mmpvg.CheckpointHook',
        by_epoch=False,
        interval=16000,
        max_keep_ckpts=3,
        save_best='mIoU',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
custom_hooks = [
    dict(type='mmpvg.ClassCountCheckHook'),
    dict(type='mmpvg.BrokenDataHook'),
    dict(type='mmpvg.FiniteLossHook'),
    dict(type='mmpvg.PreemptionHook'),
]
vis_backends = [dict(type='LocalVisBackend')]
# None, so that every run has its own logger and log file.
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends)
log_processor = dict(by_epoch=False)
tta_model = dict(type='SegTTAModel')
log_level = 'INFO'
load_from = None
resume = False
