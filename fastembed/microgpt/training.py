"""A training run of the names model that can be stopped, saved and resumed to the bit."""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections.abc import Generator
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from ..io import checkpoint
from ..io.checkpoint import CheckpointError
from ..optim import Adam
from .batches import batch_gradient
from .model import GPT, Tokenizer, read_documents, shapes

if TYPE_CHECKING:
    from .._typing import Array
    from ..distributed import Group

MAX_PARAMETERS = 100_000_000  # drawing them one by one, as microgpt's script does, takes minutes


@dataclass(frozen=True)
class Options:
    """The options that determine a run's losses to the bit. The defaults are microgpt's.

    Raises
    ------
    ValueError, TypeError
        A value is out of range.
    """

    steps: int = 1000
    seed: int = 42
    block_size: int = 8
    n_embd: int = 16
    n_head: int = 4
    n_layer: int = 1
    dtype: str = "float64"
    lr: float = 0.01
    batch: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "block_size", "n_embd", "n_head", "n_layer", "batch"):
            low = 0 if name == "n_layer" else 1
            if not low <= _checks.integer(name, getattr(self, name)) <= MAX_PARAMETERS:
                raise ValueError(f"{name} must be from {low} to {MAX_PARAMETERS}, got {_checks.shown(getattr(self, name))}")
        if not -(2**63) <= _checks.integer("seed", self.seed) < 2**63:
            raise ValueError(f"seed must be within 64 bits, got {_checks.shown(self.seed)}")
        _checks.number("lr", self.lr, 0.0, 1e30)
        _checks.one_of("dtype", self.dtype, ("float64", "float32"))
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd must be a multiple of n_head, got {self.n_embd} and {self.n_head}")

    def shapes(self, vocab_size: int) -> dict[str, tuple[int, int]]:
        """The shape of every parameter; ValueError if there are too many."""
        n_parameters = (2 * vocab_size + self.block_size) * self.n_embd + 12 * self.n_layer * self.n_embd**2
        if n_parameters > MAX_PARAMETERS:
            raise ValueError(f"the model would have {n_parameters} parameters; the limit is {MAX_PARAMETERS}")
        return shapes(vocab_size, self.block_size, self.n_embd, self.n_layer)

    def model(self, vocab_size: int, rng: random.Random) -> GPT:
        """A model with parameters drawn from ``rng``."""
        self.shapes(vocab_size)
        return GPT(vocab_size, self.block_size, self.n_embd, self.n_head, self.n_layer, dtype=self.dtype, rng=rng)


class Run:
    """A model, its optimiser, its documents and its random generator, at some step.

    Parameters
    ----------
    options : Options
    data : str or None
        The text file; None for the names in the package.
    group : distributed.Group, optional
        The ranks that take the steps together, each with documents of every batch. Rank 0 says when
        to stop.

    Attributes
    ----------
    model : GPT
    tokenizer : Tokenizer
    rng : random.Random
        It has shuffled the documents and drawn the parameters; samples are drawn from it next.
    """

    def __init__(self, options: Options, data: str | None = None, group: Group | None = None) -> None:
        self.options, self.group = options, group
        self.data = None if data is None else os.path.abspath(data)
        documents = read_documents(data)
        self.data_hash = hashlib.sha256("\n".join(documents).encode()).hexdigest()
        self.rng = random.Random(options.seed)
        self.rng.shuffle(documents)
        self.documents = documents
        self.tokenizer = Tokenizer("".join(documents))
        self.model = options.model(self.tokenizer.vocab_size, self.rng)
        self.optimizer = Adam([self.model.emb, *self.model.weights.values()], lr=options.lr, betas=(0.85, 0.99), eps=1e-8)

    @property
    def step(self) -> int:
        """Steps taken so far. The optimiser counts them, in one commit with what a step changes."""
        return self.optimizer.step_counts[0]

    def train(self, stop_at: int) -> Generator[float, None, None]:
        """Take steps until ``stop_at`` are done, yielding the loss of each.

        A step is taken completely or not at all, also when it is interrupted: going on gives the
        bits of a run that was not.

        Raises
        ------
        ValueError
            ``stop_at`` is beyond the steps of the run, or the loss is not finite; then that step is
            not taken.
        """
        if stop_at > self.options.steps:
            raise ValueError(f"stop_at must be at most the {self.options.steps} steps of the run, got {_checks.shown(stop_at)}")
        while self.step < stop_at and self._all_go_on(True):
            loss = self._gradient()
            if not math.isfinite(loss):
                raise ValueError(
                    f"the loss became {loss} at step {self.step}: the learning rate {self.options.lr} may be too large"
                )
            self.optimizer.lr = self._rate()
            self.optimizer.step()
            try:
                yield loss
            except GeneratorExit:
                if self.step < stop_at:
                    self._all_go_on(False)
                raise

    @own_floats
    def _rate(self) -> float:
        """The learning rate of the next step."""
        return self.options.lr * (1 - self.step / self.options.steps)

    def _gradient(self) -> float:
        """Give the model the gradient of the next step; the loss."""
        self.optimizer.zero_grad()
        first, length = self.step * self.options.batch, self.model.emb.block_size + 1
        numbers = [k % len(self.documents) for k in range(first, first + self.options.batch)]
        batch = [self.tokenizer.encode(self.documents[k], length) for k in numbers]
        return (
            self.model.loss(batch[0]) if len(batch) == 1 and self.group is None else batch_gradient(self.model, batch, self.group)
        )

    def _all_go_on(self, is_wanted: bool) -> bool:
        """Whether rank 0 wants another step; without other ranks, whether this one does."""
        if self.group is None:
            return is_wanted
        return bool(self.group.agree("step of the names model", np.full((self.group.size, 1), is_wanted, np.int64))[0, 0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything that a later `resume` needs."""
        description = {
            "options": asdict(self.options),
            "step": self.step,
            "characters": self.tokenizer.characters,
            "data": self.data,
            "data_sha256": self.data_hash,
            "rng": self.rng.getstate(),
        }
        checkpoint.save(path, self.model.state_dict() | self._optimizer_tensors(), description)

    def _optimizer_tensors(self) -> dict[str, Any]:
        """The optimiser's arrays, by the names of state and parameter: "exp_avg.wte"."""
        names = [{"wte": "wte", "wpe": "wpe"}, *({"data": name} for name in self.model.weights)]
        return {
            f"{state}.{owner[name]}": array
            for owner, item in zip(names, self.optimizer.state_dict()["items"], strict=True)
            for state in ("exp_avg", "exp_avg_sq")
            for name, array in item[state].items()
        }

    def load(self, tensors: dict[str, Array], step: int, rng: random.Random) -> None:
        """Go to a step, with the arrays that `save` wrote after it and the generator of then."""
        self.model.load_state_dict(tensors)
        for name, array in self._optimizer_tensors().items():
            array[...] = tensors[name]
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict(state | {"items": [item | {"step": step} for item in state["items"]]})
        self.rng = rng

    @classmethod
    def resume(cls, path: str, data: str | None = None, steps: int | None = None) -> Run:
        """The run that `save` wrote.

        Parameters
        ----------
        path : str
        data : str or None
            The text file, if it has moved; its content must be the same.
        steps : int or None
            More steps than the run had, to extend it. The learning rate of a step still to be taken
            is ``lr * (1 - step / steps)`` with this number; the steps taken remain as they are.

        Raises
        ------
        OSError, CheckpointError
            The checkpoint or the data cannot be read, or the data is not that of the run.
        ValueError
            ``steps`` is less than the run had.
        """
        return Saved(path).run(data, steps)


def load_model(path: str) -> tuple[GPT, Tokenizer, random.Random]:
    """The model of a checkpoint, its tokenizer, and its generator; the data is not needed.

    Raises
    ------
    OSError, CheckpointError
        The file cannot be read, or is not such a checkpoint.
    """
    saved = Saved(path)
    tokenizer = Tokenizer(saved.characters)
    model = saved.options.model(tokenizer.vocab_size, random.Random(0))
    model.load_state_dict(saved.tensors)
    return model, tokenizer, saved.rng


class Saved:
    """The content of a checkpoint, checked before a model of the size that it states is made.

    Attributes
    ----------
    options : Options
    step : int
    characters : list of str
    data : str or None
        The text file that the run was trained on; None for the names in the package.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.tensors, description = checkpoint.load(path)
        try:
            given = {"batch": Options.batch} | description["options"]  # which earlier files lack
            options = {field.name: type(getattr(Options, field.name))(given[field.name]) for field in fields(Options)}
            self.options = Options(**options)
            self.step, self.data_hash = _checks.size("step", description["step"]), str(description["data_sha256"])
            self.characters = list(description["characters"])
            self.data = description["data"]
            is_odd = any(not isinstance(c, str) or len(c) != 1 for c in self.characters)
            is_odd |= not isinstance(self.data, str | None) or self.characters != sorted(set(self.characters))
            version, internal, gauss_next = description["rng"]
            self.rng = random.Random()
            self.rng.setstate((version, tuple(internal), gauss_next))
            self.rng.gauss()  # a gauss_next that is no number fails here, not during the run
            self.rng.setstate((version, tuple(internal), gauss_next))
            shapes_of_model = self.options.shapes(len(self.characters) + 1)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise CheckpointError(f"{path} does not describe a training run: {error!r:.200}") from error
        if is_odd:
            raise CheckpointError(f"{path} does not describe a training run: its data or its characters are odd")
        if self.step > self.options.steps:
            raise CheckpointError(f"{path} is at step {self.step} of {self.options.steps}")
        expected = {
            f"{state}{name}": shape for name, shape in shapes_of_model.items() for state in ("", "exp_avg.", "exp_avg_sq.")
        }
        checkpoint.check(path, self.tensors, expected, _checks.dtype(self.options.dtype))

    def run(self, data: str | None = None, steps: int | None = None, group: Group | None = None) -> Run:
        """The run itself; `Run.resume` describes the parameters."""
        options = self.options if steps is None else replace(self.options, steps=steps)
        if options.steps < self.options.steps:
            raise ValueError(f"steps must be at least the {self.options.steps} of {self.path}, got {_checks.shown(steps)}")
        if data is None and self.data is not None and not os.path.isfile(self.data):
            text = _checks.shown(self.data)
            raise CheckpointError(f"the text that {self.path} was trained on, {text}, is not there any more; name it")
        run = Run(options, data if data is not None else self.data, group)
        if (run.data_hash, run.tokenizer.characters) != (self.data_hash, self.characters):
            text = run.data or "the embedded names"
            raise CheckpointError(f"the text of {text} is not the one that {self.path} was trained on")
        run.load(self.tensors, self.step, self.rng)
        return run
