"""Figures as files: SVG whose colours follow the theme of whoever looks, and PNG on white for documents."""

import io
import re
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from widthwise.report.figures.style import FONT, SURFACE, THEME
from widthwise.runs import write_atomic, write_text

__all__ = ["GENERATOR", "is_ours", "svg_of", "theme_css", "write_figure"]

GENERATOR = "widthwise report"
"""Stands in every file that a report writes, so that no other one is ever overwritten."""

_MARKS = (f'<meta name="generator" content="{GENERATOR}">', f"<!-- {GENERATOR} -->", f"Software\0{GENERATOR}")
"""How it stands in a page, in an SVG and in a PNG."""

DPI = 160
"""Of PNG files."""

_WRITING: dict[Any, Any] = {"svg.fonttype": "none", "font.sans-serif": [FONT]}
"""Text stays text; the viewer's own font takes the place of the one that it was laid out with, which is wide."""

_ROOT = re.compile(r'.*?<svg [^>]*viewBox="([^"]*)"[^>]*>', re.DOTALL)
_USELESS = re.compile(
    r"\s*<metadata>.*?</metadata>|\s*<defs>\s*<style[^>]*>.*?</style>\s*</defs>"  # the style would be the whole page's
    r'|(?<=")\s+transform="rotate\(-0 [^"]*"',
    re.DOTALL,
)
_FAMILY = re.compile(rf"'{FONT}'[^;\"]*")
_IDS = re.compile(r'(\sid="|url\(#|href="#)')


def theme_css(selector: str = ":root") -> str:
    """The colours of both themes as CSS variables ``--ww-NAME``."""
    light, dark = ("".join(f"--ww-{name}:{colours[which]};" for name, colours in THEME.items()) for which in (0, 1))
    return f"{selector}{{{light}}}@media (prefers-color-scheme:dark){{{selector}{{{dark}}}}}"


def svg_of(figure: Figure, prefix: str, alt: str) -> str:
    """A figure as an ``<svg>`` element for a page that has :func:`theme_css`; text stays text.

    Args:
        figure: one of ours.
        prefix: in front of every id, so that several figures fit in one page.
        alt: what the figure shows, in words.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(_WRITING | {"svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = _USELESS.sub("", buffer.getvalue())
    for name, (light, _, _) in THEME.items():
        text = text.replace(light, f"var(--ww-{name})")
    text = _IDS.sub(rf"\g<1>{prefix}-", _FAMILY.sub("system-ui, sans-serif", text))
    figure.set_layout_engine("none")  # what was laid out once stays where it is
    root = _ROOT.match(text)
    assert root is not None
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{escape(alt)}" viewBox="{root[1]}" stroke-linejoin="round">'
    )
    return head + text[root.end() :].strip()


def write_figure(figure: Figure, svg: str, stem: Path) -> None:
    """Write ``STEM.svg``, which follows the theme of the viewer, and ``STEM.png``.

    Args:
        figure: one of ours.
        svg: of the figure, by :func:`svg_of`.
        stem: path without the ending.
    """
    style = f"<style>{theme_css()}</style>"
    width, height = (72 * inches for inches in figure.get_size_inches())
    picture = svg.replace("<svg ", f'<svg width="{width:g}pt" height="{height:g}pt" ', 1)
    at = picture.index(">") + 1
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<!-- {GENERATOR} -->\n{picture[:at]}{style}{picture[at:]}\n'
    write_text(stem.with_name(stem.name + ".svg"), text)
    options: dict[str, Any] = {"dpi": DPI, "facecolor": SURFACE, "metadata": {"Software": GENERATOR}}
    write_atomic(stem.with_name(stem.name + ".png"), lambda path: figure.savefig(path, **options))


def is_ours(path: Path) -> bool:
    """Whether a file was written by a report."""
    with path.open("rb") as file:
        head = file.read(4096)
    return any(mark.encode() in head for mark in _MARKS)
