_base_ = './classifier_vit_mpvg_sample.py'
# One exponent for each of the 4 heads.
model = dict(neck=dict(pooling='ggem', in_channels=128, groups=4))
