"""Inline SVG for a page, drawn by matplotlib.

Colours are written as placeholders and turned into the page's CSS variables, so that one drawing serves light and dark;
text stays text, in the page's font; values show when the mouse rests on a mark; nothing is loaded from anywhere.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from pocketface.sdk.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Tip: TypeAlias = tuple[Any, str]
Finish: TypeAlias = Callable[[str, Sequence[Tip]], str]

# Placeholder -> CSS variable of style.css.j2. Any unlikely colours will do.
INK, MUTED, LINE, PAPER = "#010203", "#020304", "#030405", "#040506"
SERIES = tuple(f"#0{i}0a0b" for i in range(9))
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper"} | {
    colour: f"s{i}" for i, colour in enumerate(SERIES)
}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.edgecolor": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@contextmanager
def chart(width: float, height: float) -> Iterator[tuple[Axes, Finish]]:
    """Axes of a figure of its own, without matplotlib's global state.

    Args:
        width, height: in inches; type is 10 points.

    Yields:
        The axes to draw on, and ``finish(name, tips)``, which gives the SVG. ``name`` is unique within a page; ``tips``
        are marks with the text that shows when the mouse rests on them.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing the report", "bench", str(error)) from error
    # A fixed style, whatever the user's matplotlibrc says.
    settings: dict[Any, Any] = {**dict(mpl.rcParamsDefault), **_STYLE, "backend": mpl.rcParams["backend"]}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()

        def finish(name: str, tips: Sequence[Tip]) -> str:
            mpl.rcParams["svg.hashsalt"] = name
            for number, (artist, _) in enumerate(tips):
                artist.set_gid(f"tip{number}")
            buffer = io.StringIO()
            blank = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(buffer, format="svg", metadata=blank)
            return _inline(buffer.getvalue(), name, [text for _, text in tips])

        yield axes, finish


def _inline(svg: str, name: str, tips: Sequence[str]) -> str:
    """An SVG file as an element of a page: own ids, page colours, tooltips, no fixed size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    for number, text in enumerate(tips):
        group = f'<g id="tip{number}">'
        svg = svg.replace(group, f"{group}<title>{html.escape(text)}</title>")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    found = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', svg)
    width = float(found[1]) * 96 / 72 if found else 600  # points to CSS pixels
    head = f'<svg class="chart" style="max-width:{width:.0f}px" role="img" aria-label="{html.escape(name)}"'
    return re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf"{head} \1>", svg, count=1)
