_base_ = './vit-t_mpvg_8xb128-300e_in1k.py'
# One exponent per head.
model = dict(neck=dict(pooling='ggem', in_channels='deit-tiny', groups='heads'))
