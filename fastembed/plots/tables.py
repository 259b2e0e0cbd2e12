"""Positions, norms, counts of look-ups and losses, each in axes of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._kernels.floats import own_floats
from .figure import FONTS, Picture, label, picture_of
from .source import Source

if TYPE_CHECKING:
    from .._typing import Array

_MAX_POSITIONS = 1024
_FEW = 64  # rows up to which each has a bar and its name
_WINDOW = 50  # steps of a running mean


def positions(source: Any, *, table: str | None = None, dark: bool = False, axes: Sequence[Any] | None = None) -> Picture:
    """The rows of a position table, 1,024 at most, as a heat map, and the cosines between them.

    Parameters
    ----------
    source, table, dark
        As in `rows`.
    axes : pair of matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    Picture

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.TokenPositionEmbedding(27, 8, 16, rng=0)
    >>> picture = fe.plots.positions(layer, table="wpe")  # doctest: +SKIP
    """
    shown = Source.of(source, table=table, max_rows=_MAX_POSITIONS)
    if axes is None:
        picture = Picture(10, 4, dark)
        axes = picture.subplots(1, 2, width_ratios=(3, 2))
    else:
        picture = axes[0].figure
    values, similar = axes
    picture.styled(values, f"positions: {shown}", x="column", y="position")
    picture.styled(similar, "cosine of two positions", x="position", y="position")
    limit = float(np.abs(shown.rows[np.isfinite(shown.rows)]).max(initial=0.0)) or 1.0
    image = values.imshow(shown.rows, aspect="auto", cmap=picture.theme.signed, vmin=-limit, vmax=limit, interpolation="nearest")
    picture.add_color_bar(image, values)
    image = similar.imshow(_cosines(shown), aspect="auto", cmap=picture.theme.signed, vmin=-1, vmax=1, interpolation="nearest")
    picture.add_color_bar(image, similar)
    return picture


@own_floats
def _cosines(shown: Source) -> Array:
    norms = shown.norms
    units = shown.rows / np.where(norms == 0, 1.0, norms)[:, None]
    return units @ units.T


def norms(
    source: Any, names: Iterable[str] | None = None, *, table: str | None = None, dark: bool = False, ax: Any = None
) -> Picture:
    """The Euclidean norms of the rows: a bar for each of a few rows, else how often each occurs.

    Parameters and result are those of `rows`.

    Examples
    --------
    >>> import fastembed as fe
    >>> picture = fe.plots.norms(fe.Embedding(1000, 8, rng=0))  # doctest: +SKIP
    """
    shown = Source.of(source, names, table=table)
    picture, axis = picture_of(ax, 6, 4, dark)
    if len(shown.rows) <= _FEW:
        picture.styled(axis, "norms of rows")
        _bars(picture, axis, shown, shown.norms)
    else:
        picture.styled(axis, "norms of rows", x="norm", y="rows")
        finite = shown.norms[np.isfinite(shown.norms)]
        axis.hist(finite, bins=60, color=picture.theme.accent)
    return picture


def lookups(
    source: Any,
    names: Iterable[str] | None = None,
    *,
    table: str | None = None,
    counts: Any = None,
    dark: bool = False,
    ax: Any = None,
) -> Picture:
    """How often rows were looked up: a bar for each of a few rows, else the counts by rank.

    Parameters
    ----------
    source, names, table, dark, ax
        As in `rows`.
    counts : array_like of integers, shape (V,), optional
        By default those of the layer, which counts after ``layer.count_lookups()``.

    Returns
    -------
    Picture

    Raises
    ------
    ValueError
        There are no counts.

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding(4, 2, rng=0).count_lookups()
    >>> x = layer([[3, 1], [3, 3]])
    >>> picture = fe.plots.lookups(layer)  # doctest: +SKIP
    """
    shown = Source.of(source, names, table=table, lookups=counts)
    if shown.counts is None:
        raise ValueError("there are no counts of look-ups: call layer.count_lookups() first, or give counts")
    picture, axis = picture_of(ax, 6, 4, dark)
    if len(shown.rows) <= _FEW:
        picture.styled(axis, "look-ups of rows")
        _bars(picture, axis, shown, shown.counts)
    else:
        picture.styled(axis, "look-ups of rows", x="rank of the row", y="look-ups")
        ranked = np.sort(shown.counts)[::-1]
        axis.plot(np.arange(1, len(ranked) + 1), ranked, color=picture.theme.accent)
        axis.set_xscale("log")
        axis.set_yscale("symlog")
    return picture


def _bars(picture: Any, axis: Any, shown: Source, values: Array) -> None:
    order = np.argsort(-np.nan_to_num(values, nan=-1), kind="stable")
    finite = np.where(np.isfinite(values), values, 0)[order]
    axis.bar(range(len(order)), finite, color=picture.theme.accent, width=0.75)
    names = [label(shown.names[row]) for row in order]
    rotation = 90 if max(map(len, names), default=0) > 2 else 0
    size = 7 if len(names) <= 40 else 5
    axis.set_xticks(range(len(order)), names, rotation=rotation, fontsize=size, family=FONTS, parse_math=False)
    axis.margins(x=0.01)


def losses(values: Any, *, first: int = 0, dark: bool = False, ax: Any = None) -> Picture:
    """The loss of each step, and its mean over the last 50.

    Parameters
    ----------
    values : array_like of numbers, shape (steps,)
    first : int
        The number of steps before.
    dark, ax
        As in `rows`.

    Returns
    -------
    Picture

    Raises
    ------
    ValueError
        There is no loss, or they have several axes.

    Examples
    --------
    >>> import fastembed as fe
    >>> picture = fe.plots.losses([3.3, 3.1, 2.9])  # doctest: +SKIP
    """
    given = np.asarray(values, np.float64)
    if given.ndim != 1 or not len(given):
        raise ValueError(f"values must be the losses of one step or more, got an array of shape {given.shape}")
    picture, axis = picture_of(ax, 6, 4, dark)
    picture.styled(axis, "loss", x="step", y="loss")
    steps = np.arange(first + 1, first + len(given) + 1)
    axis.plot(steps, given, color=picture.theme.accent, linewidth=0.6, alpha=0.35)
    axis.plot(steps, running_mean(given), color=picture.theme.second, linewidth=1.6)
    return picture


def running_mean(values: Array) -> Array:
    """The mean of each value and those before it, 50 at most."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - _WINDOW, 0)
    means: Array = (sums[ends] - sums[starts]) / (ends - starts)
    return means
