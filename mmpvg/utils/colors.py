"""Colours and marks that the colour-blind tell apart, and print too."""

# Okabe and Ito.
COLOURS = ('#000000', '#E69F00', '#56B4E9', '#009E73', '#D55E00', '#0072B2', '#CC79A7')
MARKS = 'osD^vPX*<>'

# A colour map of matplotlib whose brightness rises evenly, so that it prints in grey too. Around
# zero it serves as well: blue below, grey there, yellow above. Maps that are pale at zero, such as
# PuOr, give both signs the same grey.
COLOUR_MAP = 'cividis'


def look(index: int) -> dict:
    """Arguments of matplotlib's lines for the first, second, ... of them."""
    return dict(color=COLOURS[index % len(COLOURS)], marker=MARKS[index % len(MARKS)])
