"""The rows of a table as points with labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from . import labels as label_places
from .figure import FONTS, label, picture_of, withStroke
from .source import Source

if TYPE_CHECKING:
    from .._typing import Array
    from .figure import Picture

_CANDIDATES = 10  # rows for each label that is wanted, of which those that fit are labelled
_STYLE = {"fontsize": 8.5, "family": FONTS, "parse_math": False, "verticalalignment": "bottom"}


def rows(
    source: Any,
    names: Iterable[str] | None = None,
    *,
    table: str | None = None,
    n_labels: int = 150,
    dark: bool = False,
    ax: Any = None,
) -> Picture:
    """The rows of a table by their first two principal components, with labels that do not overlap.

    Parameters
    ----------
    source : layer, packed table, or array_like of shape (V, D)
    names : iterable of str, optional
        Those of the rows; by default the layer's vocabulary, or the numbers of the rows.
    table : str, optional
        Which of a layer's tables; by default the first.
    n_labels : int
        The most labels; rows that are looked up most often come first, if the layer counts, else
        the first rows. A label for which there is no room is left out.
    dark : bool
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    Picture
        A matplotlib Figure.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    TypeError, ValueError, KeyError
        An argument has an invalid type, shape or value.

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding(26, 8, rng=0)
    >>> picture = fe.plots.rows(layer, list("abcdefghijklmnopqrstuvwxyz"))  # doctest: +SKIP
    >>> fe.plots.save(picture, "letters.png")  # doctest: +SKIP
    """
    shown = Source.of(source, names, table=table)
    picture, axis = picture_of(ax, 7.5, 6, dark)
    components = shown.components()
    points = components.coordinates(shown.rows)
    percent = [f"{share:.0%} of the variance" for share in components.shares]
    picture.styled(axis, f"rows of {shown}", x=f"first component, {percent[0]}", y=f"second component, {percent[1]}")
    size = float(np.clip(2000 / max(len(points), 1), 1, 12))
    axis.scatter(*points.T, s=size, color=picture.theme.accent, linewidths=0, alpha=1 if len(points) < 2000 else 0.5)
    set_limits(axis, points)
    order = shown.order[np.isfinite(points[shown.order]).all(axis=1)][: _CANDIDATES * _checks.size("n_labels", n_labels)]
    names_shown = [shown.names[row] for row in order]
    add_labels(picture, axis, points[order], names_shown, n_labels)
    return picture


def add_labels(
    picture: Picture, axis: Any, points: Array, names: Sequence[str], most: int, preferred: Array | None = None
) -> label_places.Labels:
    """Label points of an axes, which then stays where it is in the figure."""
    picture.fix_layout()
    texts = [label(name) for name in names]
    sizes = np.array([picture.label_size(text, **_STYLE) for text in texts]).reshape(-1, 2)
    box = axis.get_window_extent()
    bounds = (box.x0, box.y0, box.x1, box.y1)
    found = label_places.place(axis.transData.transform(points), sizes, bounds, most=most, preferred=preferred)
    halo = [withStroke(linewidth=2, foreground=picture.theme.page)]
    for i in found.placed:
        _add_line(picture, axis, points[i], found.boxes[i])
        x, y = axis.transData.inverted().transform(found.boxes[i][:2])
        axis.text(x, y, texts[i], **_STYLE, color=picture.theme.ink, zorder=4, gid="label", path_effects=halo)
    return found


def set_limits(axis: Any, points: Array) -> None:
    """Let an axes show all points, with a margin."""
    finite = points[np.isfinite(points).all(axis=-1)]
    if len(finite):
        low, high = finite.min(axis=0), finite.max(axis=0)
        margin = 0.06 * np.maximum(high - low, 1e-9)
        axis.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))


def _add_line(picture: Picture, axis: Any, point: Array, box: Array) -> None:
    """A line from a point to its label, if that is not beside it."""
    start = axis.transData.transform(point)
    end = np.clip(start, box[:2], box[2:])
    if np.hypot(*(end - start)) >= label_places.FAR:
        xs, ys = np.array([point, axis.transData.inverted().transform(end)]).T
        axis.plot(xs, ys, color=picture.theme.faint, linewidth=0.7, zorder=1, scalex=False, scaley=False)
