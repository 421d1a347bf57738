"""Colors and markers that stay distinct for the color-blind and in print."""

# Okabe and Ito.
COLORS = ('#000000', '#E69F00', '#56B4E9', '#009E73', '#D55E00', '#0072B2', '#CC79A7')
MARKS = 'osD^vPX*<>'

# A color map of matplotlib whose lightness rises evenly, so that it prints in gray too. Around zero
# it serves as well: blue below, gray there, yellow above. Maps that are pale at zero, such as PuOr,
# give both signs the same gray.
COLOR_MAP = 'cividis'


def look(index: int) -> dict:
    """Arguments of matplotlib's lines for the first, second, ... of them."""
    return dict(color=COLORS[index % len(COLORS)], marker=MARKS[index % len(MARKS)])
