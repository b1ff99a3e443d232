"""matplotlib figures as inline SVG that takes its colours from the page's style sheet."""

import re
from io import StringIO
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure

INK, QUIET = "#c0ffee", "#c0ffed"
SERIES = [f"#c0ff0{number}" for number in range(1, 9)]
_VARIABLES = {
    INK: "currentColor",
    QUIET: "var(--quiet)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)},
}
"""Colours that no one would choose stand in for those of the style sheet, light and dark."""

PLOT_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": QUIET,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 2,
    "lines.markersize": 7,
}


def inline_svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    """``figure`` as an ``<svg>`` element that carries ``title`` and ``description``.

    All its ids begin with ``name``. The same figure always gives the same text.
    """
    text = StringIO()
    with rc_context({**PLOT_STYLE, "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata=_NO_METADATA)
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    opening, _, content = drawing.partition(">")
    for colour, variable in _VARIABLES.items():
        content = content.replace(colour, variable)
    content = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", content)
    view_box = re.search(r'viewBox="[^"]*"', opening)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{view_box[0] if view_box else ""} role="img" '
        f'aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>'
    )
    return Markup(head + content)  # noqa: S704  matplotlib escapes every label


_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
