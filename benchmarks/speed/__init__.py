"""Time and memory of the networks, beside those of timm, mmpretrain and mmseg."""
