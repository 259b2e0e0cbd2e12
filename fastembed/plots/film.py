"""Film: how the rows of a table move while they are trained."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from ..functional.components import principal_components
from ..io.atomic import replacing
from . import figure, labels
from .figure import Picture
from .paths import SUFFIXES, check_path
from .scatter import add_labels, set_limits
from .tables import losses as draw_losses
from .tables import running_mean

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

N_FRAMES = 40
_FRAME, _LAST = 100, 2000  # milliseconds
_DPI = 90  # of a film


class Film:
    """Copies of a table at several steps of training, drawn as a GIF, or as one picture with paths.

    The axes are the principal components of the last copy, so that what moves are the rows.

    Parameters
    ----------
    names : sequence of str
        Those of the rows.
    max_rows : int
        Only so many rows are kept and drawn.

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding(3, 2, rng=0)
    >>> film = fe.plots.Film(["a", "b", "c"])  # doctest: +SKIP
    >>> film.add(0, layer.weight)  # doctest: +SKIP
    >>> layer.set_rows([0, 1, 2], [[1, 2], [2, 1], [0, 0]])
    >>> film.add(1, layer.weight)  # doctest: +SKIP
    >>> film.save("letters.gif", losses=[1.0])  # doctest: +SKIP
    """

    def __init__(self, names: Sequence[str], max_rows: int = 300) -> None:
        self._names = list(names)[: _checks.size("max_rows", max_rows)]
        self._steps: list[int] = []
        self._copies: list[Array] = []

    @property
    def last_step(self) -> int:
        """The step of the last copy; -1 if there is none."""
        return self._steps[-1] if self._steps else -1

    def add(self, step: int, table: ArrayLike) -> None:
        """Keep a copy of the table as it is after ``step`` steps."""
        rows = _checks.table("table", table)[: len(self._names)]
        self._steps.append(step)
        self._copies.append(np.array(rows, np.float64))

    def save(
        self,
        path: str | os.PathLike[str],
        losses: ArrayLike,
        *,
        format: str | None = None,
        dark: bool = False,
        progress: Callable[[int, int], object] = lambda n_done, n_all: None,
    ) -> None:
        """Write a .gif, which moves; or a .png, .svg or .pdf with the path of each row.

        Parameters
        ----------
        path : path-like
        losses : array_like of numbers, shape (steps,)
            Those of the steps between the first copy and the last.
        format : {"gif", "png", "svg", "pdf"}, optional
            By default as the name's suffix says.
        dark : bool
        progress : callable
            Called as ``progress(n_done, n_all)`` after each frame of a .gif.

        Raises
        ------
        ValueError
            The suffix says no such format, there is no copy, or there are no losses.
        OSError
            The file cannot be written.
        """
        if format is None:
            format = check_path("path", path, (".gif", *SUFFIXES))
        if not self._copies:
            raise ValueError("there is no copy of a table to draw: add one first")
        screen = _Screen(self._names, self._copies, np.asarray(losses, np.float64), self._steps, dark)
        if format != "gif":
            screen.show(len(self._copies) - 1, with_paths=True)
            figure.save(screen.picture, path, format)
            return
        screen.picture.set_dpi(_DPI)
        self._save_gif(screen, path, progress)

    def _save_gif(self, screen: _Screen, path: str | os.PathLike[str], progress: Callable[[int, int], object]) -> None:
        """All frames with the colours of the last one."""
        from PIL import Image

        frames = []
        for k in range(len(self._copies)):
            screen.show(k)
            frames.append(Image.fromarray(screen.pixels()))
            progress(k + 1, len(self._copies))
        colours = frames[-1].quantize(128)
        frames = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
        durations = [*[_FRAME] * (len(frames) - 1), _LAST]
        with replacing(path) as new:
            frames[0].save(new, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


class _Screen:
    """The figure that frames are drawn in."""

    def __init__(self, names: list[str], copies: list[Array], losses: Array, steps: list[int], dark: bool) -> None:
        self._names, self._steps = names, steps
        components = principal_components(copies[-1])
        self._points = np.stack([components.coordinates(rows) for rows in copies])  # (frames, rows, 2)
        self.picture = Picture(10, 5.4, dark)
        self._axis, loss_axis = self.picture.subplots(1, 2, width_ratios=(5, 3))
        draw_losses(losses, first=steps[0], ax=loss_axis)
        self._means = running_mean(losses)
        ink, page = self.picture.theme.ink, self.picture.theme.page
        (self._marker,) = loss_axis.plot([], [], "o", color=ink, markeredgecolor=page, markersize=8, zorder=5)
        set_limits(self._axis, self._points.reshape(-1, 2))
        self._shown: list[Any] = []
        self._choices: Array | None = None

    def show(self, frame: int, *, with_paths: bool = False) -> None:
        """Draw one of the copies; a label keeps its place beside its point, if that is free."""
        for artist in self._shown:
            artist.remove()
        axis, points, theme = self._axis, self._points[frame], self.picture.theme
        title = f"rows after {self._steps[frame]:,} steps"
        self.picture.styled(axis, title, x="first component of the last rows", y="second component")
        done = self._steps[frame] - self._steps[0]
        self._marker.set_data([self._steps[frame]], [self._means[done - 1]]) if done else self._marker.set_data([], [])
        before = set(axis.get_children())
        axis.scatter(*points.T, s=14, color=theme.accent, linewidths=0, zorder=3)
        if with_paths:
            axis.plot(*self._points.transpose(2, 0, 1), color=theme.faint, linewidth=0.6, zorder=1)
        choices = add_labels(self.picture, axis, points, self._names, len(self._names), self._choices).choices
        self._choices = np.where(choices < labels.N_NEAR, choices, -1)
        self._shown = [artist for artist in axis.get_children() if artist not in before]

    def pixels(self) -> Array:
        """What is shown, shape (height, width, 3), uint8."""
        with figure.glyphs_warned_of_once():
            self.picture.agg.draw()
        return np.array(self.picture.agg.buffer_rgba())[:, :, :3]
