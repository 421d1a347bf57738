default_scope = 'mmdet'
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmpvg.CheckpointHook', interval=1, max_keep_ckpts=3, save_best='auto'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
custom_hooks = [
    dict(type='mmpvg.ClassCountCheckHook'),
    dict(type='mmpvg.BrokenDataHook'),
    dict(type='mmpvg.FiniteLossHook'),
    dict(type='mmpvg.Float32BoxesHook'),
    dict(type='mmpvg.PreemptionHook'),
]
vis_backends = [dict(type='LocalVisBackend')]
# None, so that every run has its own logger and log file.
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
# Boxes only: mmdet does not merge masks.
tta_model = dict(
    type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
)
log_level = 'INFO'
load_from = None
resume = False
