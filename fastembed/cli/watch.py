"""What is shown and kept of a run of training while it goes on."""

from __future__ import annotations

import itertools
import os
import random
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import plots
from .._messages import shown
from ..microgpt.training import Run
from .progress import progress_of

if TYPE_CHECKING:
    from .outputs import OutputFile

_N_SAMPLES = 10  # in the course of a run
_N_FRAMES = 30
_WIDTH = 60  # characters of a sparkline
_BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_ASCII = "_.-=+*%#"  # where the terminal's encoding lacks them


class Watch:
    """Samples now and then, and copies of the token table for a picture.

    Samples are drawn from a generator of their own, so that they change nothing of the run.

    Parameters
    ----------
    run : Run
    stop_at : int
        The last step.
    with_film : bool
        Whether copies are kept.
    """

    def __init__(self, run: Run, stop_at: int, *, with_film: bool) -> None:
        self._run = run
        self._rng = random.Random(0)
        n_steps = max(stop_at - run.step, 1)
        self._sample_every, self._copy_every = -(-n_steps // _N_SAMPLES), -(-n_steps // _N_FRAMES)
        self._first, self._last = run.step, stop_at
        self.latest = ""
        self.film: plots.Film | None = None
        if with_film:
            self.film = plots.Film([run.tokenizer.name(i) for i in range(run.tokenizer.vocab_size)])
            self._keep()

    def after_step(self) -> None:
        """Draw a sample and keep a copy, if it is time."""
        n_done, is_last = self._run.step - self._first, self._run.step == self._last
        if n_done % self._sample_every == 0:
            try:
                self.latest = self._run.model.sample(self._run.tokenizer, self._rng)
            except ValueError:  # scores are not finite: the next step says so
                self.latest = ""
        if self.film is not None and (n_done % self._copy_every == 0 or is_last):
            self._keep()

    def _keep(self) -> None:
        if self.film is not None:
            self.film.add(self._run.step, self._run.model.emb.wte)

    def draw(self, file: OutputFile, losses: Sequence[float], *, quiet: bool) -> None:
        """Write the picture of the run so far."""
        film, format = self.film, file.path.rpartition(".")[2].lower()
        if film is not None:
            if self._run.step != film.last_step:
                self._keep()
            with progress_of("draw", "frame", quiet=quiet) as progress:
                file.write(lambda path: film.save(path, losses, format=format, progress=progress))


def about_documents(run: Run) -> str:
    """How many documents there are, and how many of them are longer than the block."""
    block_size, longest = run.options.block_size, max(map(len, run.documents))
    n_cut = sum(len(document) >= block_size for document in run.documents)
    text = f"{len(run.documents)} documents, {run.tokenizer.vocab_size} tokens, {run.model.emb!r}"
    if n_cut:
        text += f"\n{n_cut} of them are cut to the block of {block_size} tokens; --block-size {longest + 1} holds the longest"
    return text


def sparkline(values: Sequence[float]) -> str:
    """A line of characters whose heights are the means of equal parts of the values."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        _BLOCKS.encode(encoding)
        heights = _BLOCKS
    except (UnicodeEncodeError, LookupError):
        heights = _ASCII
    n = min(_WIDTH, len(values))
    ends = [len(values) * k // n for k in range(n + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(ends)]
    low, size = min(means), (max(means) - min(means)) or 1.0
    return "".join(heights[min(int((mean - low) / size * len(heights)), len(heights) - 1)] for mean in means)


def what_next(path: str, run: Run) -> str:
    """Commands to go on with; the prompt is one that documents begin with."""
    beginning = shown(run.documents[0][: min(2, run.options.block_size - 1)], str)
    prompt = f" --prompt {beginning}" if beginning.isalnum() else ""
    commands = [f"sample {path}{prompt}", f"plot {path}", f"explore {path}"]
    return f"\n  {program()} ".join(["try next:", *commands])


def program() -> str:
    """This program as it was started, for commands to copy: the script, or a Python and ``-m``."""
    script = sys.argv[0]
    if os.path.basename(script) == "fastembed":
        return "fastembed" if shutil.which("fastembed") == script else shlex.quote(script)
    return f"{shlex.quote(sys.orig_argv[0])} -m fastembed"
