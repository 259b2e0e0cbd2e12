"""Figures in the colours of light and dark pages, without a window; and their files."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

try:
    from matplotlib import font_manager
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke
except ImportError as error:
    raise ImportError("fastembed.plots needs matplotlib: pip install 'microgpt-fastembed[plot]'") from error

from .. import _checks
from .._messages import first_few, printable, warn
from ..io.atomic import replacing
from .paths import check_path

__all__ = ["FONTS", "Picture", "glyphs_warned_of_once", "label", "picture_of", "save", "withStroke"]

DPI = 120
_LENGTH = 24  # characters of a label
_WIDE = ("Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Hiragino Sans", "Yu Gothic")
FONTS = ["DejaVu Sans", *sorted(set(_WIDE) & {font.name for font in font_manager.fontManager.ttflist})]


@dataclass(frozen=True)
class Theme:
    """Colours: of the page, of text and lines on it, and of what is shown."""

    page: str
    ink: str
    faint: str
    accent: str
    second: str
    scale: str  # the colour map of numbers without a sign
    signed: str  # of numbers around 0


LIGHT = Theme("#ffffff", "#1b1f24", "#c9ced6", "#2f6fde", "#d9682b", "viridis", "RdBu_r")
DARK = Theme("#14171c", "#e7eaf0", "#3c434e", "#6ea8ff", "#ffa066", "viridis", "RdBu_r")


class Picture(Figure):
    """A Figure with a theme, which notebooks show as a PNG."""

    def __init__(self, width: float, height: float, dark: bool) -> None:
        self.theme = DARK if _checks.flag("dark", dark) else LIGHT
        super().__init__(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=self.theme.page)
        self.agg: Any = FigureCanvasAgg(self)  # the same as `canvas`
        self._label_sizes: dict[str, Any] = {}

    def fix_layout(self) -> None:
        """Place the axes, which then stay where they are."""
        if self.get_layout_engine() is not None:
            with glyphs_warned_of_once():
                self.draw_without_rendering()
            self.set_layout_engine("none")

    def label_size(self, text: str, **style: Any) -> Any:
        """The width and height of a text in pixels."""
        if text not in self._label_sizes:
            drawn = self.text(0, 0, text, **style)
            with glyphs_warned_of_once():
                self._label_sizes[text] = drawn.get_window_extent(self.agg.get_renderer()).size
            drawn.remove()
        return self._label_sizes[text]

    def styled(self, axis: Any, title: str, *, x: str = "", y: str = "") -> Any:
        """An axes of this figure in its colours, with a title on the left."""
        ink = self.theme.ink
        axis.set_facecolor(self.theme.page)
        axis.set_title(title, loc="left", fontsize=10, color=ink, fontweight="bold", parse_math=False)
        axis.set_xlabel(x, fontsize=8, color=ink)
        axis.set_ylabel(y, fontsize=8, color=ink)
        axis.tick_params(labelsize=7, colors=ink, width=0.5, length=2.5)
        for side, spine in axis.spines.items():
            spine.set(color=self.theme.faint, linewidth=0.8, visible=side in ("left", "bottom"))
        return axis

    def add_color_bar(self, image: Any, axis: Any) -> None:
        """The scale of an image's colours beside it."""
        bar = self.colorbar(image, ax=axis, fraction=0.04, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7, colors=self.theme.ink, width=0.5, length=2.5)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def picture_of(axis: Any, width: float, height: float, dark: bool) -> tuple[Any, Any]:
    """The picture that an axes is in; or a new picture, and its only axes."""
    if axis is not None:
        return axis.figure, axis
    picture = Picture(width, height, dark)
    return picture, picture.add_subplot()


def label(name: str) -> str:
    """A name as it is shown beside a point: one line, cut."""
    text = printable(name).replace(" ", "\u2423") if not name.strip() else printable(name)
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 1]}\u2026"


def save(figure: Any, path: str | os.PathLike[str], format: str | None = None) -> None:
    """Write a picture to a file.

    Parameters
    ----------
    figure : Figure
    path : path-like
    format : {"png", "svg", "pdf"}, optional
        By default as the name's suffix says.

    Raises
    ------
    ValueError
        The suffix says no such format.
    OSError
        The file cannot be written.

    Warns
    -----
    UserWarning
        The fonts lack characters of the names, which are shown as boxes.
    """
    if format is None:
        format = check_path("path", path)
    with glyphs_warned_of_once(), replacing(path) as new:
        figure.savefig(new, format=format, facecolor=figure.get_facecolor())


@contextlib.contextmanager
def glyphs_warned_of_once() -> Iterator[None]:
    """One warning in place of many about characters that the fonts lack; others as they are."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "Glyph")
        yield
    texts = [str(warning.message) for warning in caught]
    lacking = sorted({text.partition("(")[2].partition(")")[0] for text in texts if text.startswith("Glyph")})
    if lacking:
        names = first_few([name.removeprefix("\\N{").removesuffix("}") for name in lacking])
        warn(f"the fonts lack characters, which are shown as boxes: {names}")
    for warning in caught:
        if not str(warning.message).startswith("Glyph"):
            warn(warning.message)
