"""Colours and marks that the colour-blind tell apart, and print too."""

# Okabe and Ito.
COLOURS = ('#000000', '#E69F00', '#56B4E9', '#009E73', '#D55E00', '#0072B2', '#CC79A7')
MARKS = 'osD^vPX*<>'

# Colour maps of matplotlib: of amounts, and of values around zero. Both are even in grey.
SEQUENTIAL, DIVERGING = 'cividis', 'PuOr'


def look(index: int) -> dict:
    """Arguments of matplotlib's lines for the first, second, ... of them."""
    return dict(color=COLOURS[index % len(COLOURS)], marker=MARKS[index % len(MARKS)])
