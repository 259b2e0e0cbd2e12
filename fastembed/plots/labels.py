"""Places for the labels of points, so that no label covers another, its point or the edge.

All lengths are in pixels. A box is (left, bottom, right, top).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .._typing import Array

_EIGHTHS = np.array([0, 4, 2, 6, 1, 7, 3, 5]) * (np.pi / 4)  # right, left, above, below, diagonals
_DISTANCES = (5.0, 9.0, 15.0, 23.0, 33.0)  # between a point and the nearest place of its label
N_NEAR = len(_EIGHTHS)  # so many places, the first, are beside the point
_GAP = 1.5  # around a label
_POINT = 3.0  # half the width of a point
FAR = _DISTANCES[2]  # from here on a line leads from the label to its point


class Labels(NamedTuple):
    """The result of `place`.

    Attributes
    ----------
    boxes : ndarray of shape (n, 4)
        NaN for a label without a place.
    choices : ndarray of int64, shape (n,)
        The number of the place among those that were tried, as `place` takes it; -1 for none.
    """

    boxes: Array
    choices: Array

    @property
    def placed(self) -> Array:
        """The numbers of the labels that have a place."""
        return np.flatnonzero(self.choices >= 0)


def place(
    points: Array, sizes: Array, bounds: tuple[float, float, float, float], *, most: int, preferred: Array | None = None
) -> Labels:
    """A box beside each point for its label: the first free place, near ones first.

    Parameters
    ----------
    points : ndarray of shape (n, 2)
        In the order of importance. No point that has a label is covered; if there are at most
        ``most``, no point at all.
    sizes : ndarray of shape (n, 2)
        The width and height of each label.
    bounds : tuple
        The box that all labels lie in.
    most : int
        The number of labels after which no other one is placed.
    preferred : ndarray of int64, shape (n,), optional
        The place that is tried first for each label, as in `Labels.choices`.

    Returns
    -------
    Labels
    """
    boxes, choices = np.full((len(points), 4), np.nan), np.full(len(points), -1)
    marks = np.concatenate([points - _POINT, points + _POINT], axis=1)
    taken = np.full((most, 4), np.nan)  # a box of NaN overlaps nothing
    uncovered = marks.copy() if len(points) <= most else np.full((most, 4), np.nan)
    n_placed = 0
    for i in range(len(points)):
        if n_placed == most:
            break
        if _overlap(marks[i : i + 1], taken).any():
            continue
        tried = _boxes_beside(points[i], sizes[i])
        is_free = ((tried[:, :2] >= bounds[:2]) & (tried[:, 2:] <= bounds[2:])).all(axis=1)
        is_free &= ~_overlap(tried, taken) & ~_overlap(tried, uncovered)
        if is_free.any():
            wanted = -1 if preferred is None else preferred[i]
            choices[i] = wanted if wanted >= 0 and is_free[wanted] else is_free.argmax()
            boxes[i] = tried[choices[i]]
            taken[n_placed] = boxes[i] + [-_GAP, -_GAP, _GAP, _GAP]
            if len(points) > most:
                uncovered[n_placed] = marks[i]
            n_placed += 1
    return Labels(boxes, choices)


def _boxes_beside(point: Array, size: Array) -> Array:
    """Boxes of one size that touch circles around a point, shape (tried, 4)."""
    directions = np.stack([np.cos(_EIGHTHS), np.sin(_EIGHTHS)], axis=1)
    support = np.abs(directions) @ (size / 2)
    reach = np.add.outer(_DISTANCES, support)
    centres = point + reach[..., None] * directions
    centres = centres.reshape(-1, 2)
    return np.concatenate([centres - size / 2, centres + size / 2], axis=1)


def _overlap(boxes: Array, others: Array) -> Array:
    """Whether each box overlaps one of the others."""
    found = (boxes[:, None, 2:] > others[None, :, :2]) & (boxes[:, None, :2] < others[None, :, 2:])
    is_overlapped: Array = np.logical_and.reduce(found, axis=2)
    return np.asarray(np.logical_or.reduce(is_overlapped, axis=1))
