"""mmcv's operators on torch and torchvision, for environments without a compiler.

``python -m mmpvg.ops install`` puts them where mmcv looks for its compiled ones. Loads nothing, so
that it can be imported without torch.
"""
