"""Draw the picture of the method in the README: ``python tools/misc/draw_method.py OUT``.

The arrows are read off the deliveries themselves, so the picture cannot say something else than the
code.
"""

import sys

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

from mmpvg.models.layers import PE_DELIVERIES  # noqa: E402

BLUE, ORANGE, GREY = '#0072b2', '#d55e00', '#555555'
BLOCKS = 4
TITLES = {
    'default': 'default (ViT, DeiT)',
    'lape': 'lape (LaPE, ICCV 2023)',
    'pvg': 'pvg (AAAI 2025)',
    'mpvg': 'mpvg (MPVG, AAAI 2025)',
}


def box(axis, x, y, text, color, width=0.78, height=0.5):
    patch = plt.Rectangle(
        (x - width / 2, y - height / 2), width, height, fc='white', ec=color, lw=1.5
    )
    axis.add_patch(patch)
    axis.text(x, y, text, ha='center', va='center', fontsize=8.5, color=color)


def arrow(axis, start, end, color):
    axis.annotate('', end, start, arrowprops=dict(arrowstyle='-|>', color=color, lw=1.3))


def draw(axis, name, plan):
    last = BLOCKS + 1
    axis.set_title(TITLES[name], fontsize=10, loc='left')
    for x in range(last):
        arrow(axis, (x + 0.39, 0), (x + 0.61, 0), GREY)
    box(axis, 0, 0, 'tokens', GREY)
    for block in range(BLOCKS):
        box(axis, block + 1, 0, f'block {block}', GREY)
    box(axis, last, 0, 'last norm', GREY)
    arrow(axis, (last + 0.39, 0), (last + 0.75, 0), GREY)
    box(axis, 0, 2, 'pos', ORANGE)
    if plan.at_input:
        arrow(axis, (0, 1.75), (0, 0.25), ORANGE)
        axis.text(0.08, 0.9, '+', color=ORANGE, fontsize=13)
    previous = 0
    if plan.first_block is not None:
        for block in range(plan.first_block, BLOCKS):
            x = block + 1
            box(axis, x, 1.1, rf'$LN_{{p,{block}}}$', BLUE)
            arrow(axis, (x, 0.85), (x, 0.25), BLUE)
            if previous == 0:
                arrow(axis, (0.39, 1.95), (x - 0.39, 1.2), ORANGE)
            else:
                arrow(axis, (previous + 0.39, 1.1), (x - 0.39, 1.1), BLUE)
            previous = x
    if plan.last_norm == 'pos':
        box(axis, last, 1.1, r'$LN_{p,last}$', BLUE)
        axis.plot([0.39, last], [2, 2], color=ORANGE, lw=1.3)
        arrow(axis, (last, 2), (last, 1.35), ORANGE)
        arrow(axis, (last, 0.85), (last, 0.25), BLUE)
    axis.set_xlim(-0.5, last + 0.85)
    axis.set_ylim(-0.4, 2.4)
    axis.axis('off')


def main(out):
    figure, axes = plt.subplots(2, 2, figsize=(12, 5), layout='constrained')
    for axis, (name, plan) in zip(axes.flat, PE_DELIVERIES.items()):
        draw(axis, name, plan)
    figure.savefig(out, dpi=110)


if __name__ == '__main__':
    main(sys.argv[1])
