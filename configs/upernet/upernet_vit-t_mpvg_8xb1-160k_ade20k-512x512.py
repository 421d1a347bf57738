_base_ = [
    '../_base_/models/upernet_mpvg.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/ade20k_160k_adamw.py',
    '../_base_/runtime/mmseg.py',
]
