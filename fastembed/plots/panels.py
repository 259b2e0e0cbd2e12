"""One picture of all that a model's tables and training give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .figure import Picture
from .scatter import rows
from .tables import lookups, losses, norms, positions

if TYPE_CHECKING:
    from .._typing import ArrayLike


def overview(
    source: Any,
    names: Iterable[str] | None = None,
    *,
    table: str | None = None,
    position_rows: Any = None,
    counts: Any = None,
    loss: ArrayLike | None = None,
    n_labels: int = 150,
    dark: bool = False,
) -> Picture:
    """Rows with labels, and beside them norms, positions, counts and losses, where there are any.

    Parameters
    ----------
    source, names, table, n_labels, dark
        As in `rows`.
    position_rows : layer or array_like of shape (P, D), optional
        A position table.
    counts : array_like of integers, shape (V,), optional
        As in `lookups`.
    loss : array_like of numbers, optional
        As in `losses`.

    Returns
    -------
    Picture

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.TokenPositionEmbedding(27, 8, 16, rng=0)
    >>> picture = fe.plots.overview(layer, position_rows=layer.wpe)  # doctest: +SKIP
    """
    known = None if names is None else list(names)
    small: list[Callable[[Any], Any]] = []
    if loss is not None:
        small.append(lambda axis: losses(loss, ax=axis))
    small.append(lambda axis: norms(source, known, table=table, ax=axis))
    if counts is not None:
        small.append(lambda axis: lookups(source, known, table=table, counts=counts, ax=axis))
    height = max(len(small) + 2 * (position_rows is not None), 2)
    picture = Picture(13, 2.4 * height + 1, dark)
    grid = picture.add_gridspec(height, 2, width_ratios=(5, 3))
    for k, draw in enumerate(small):
        draw(picture.add_subplot(grid[k, 1]))
    if position_rows is not None:
        axes = [picture.add_subplot(grid[k, 1]) for k in (height - 2, height - 1)]
        positions(position_rows, axes=axes)
    rows(source, known, table=table, n_labels=n_labels, ax=picture.add_subplot(grid[:, 0]))  # last: it fixes the layout
    return picture
