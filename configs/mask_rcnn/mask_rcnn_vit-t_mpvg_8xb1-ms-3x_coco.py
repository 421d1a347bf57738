_base_ = [
    '../_base_/models/mask_rcnn_mpvg.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/coco_3x_adamw.py',
    '../_base_/runtime/mmdet.py',
]
