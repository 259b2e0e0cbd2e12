"""A training run of the names model that can be stopped, saved and resumed to the bit."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from . import checkpoint
from .checkpoint import CheckpointError
from .microgpt import GPT, Tokenizer, read_documents
from .optim import Adam


@dataclass(frozen=True)
class Options:
    """What decides a run's losses, to the bit. The defaults are microgpt's."""

    steps: int = 1000
    seed: int = 42
    block_size: int = 8
    n_embd: int = 16
    n_head: int = 4
    n_layer: int = 1
    dtype: str = "float64"
    lr: float = 0.01


class Run:
    """A model, its optimiser, its documents and its generator, at some step.

    Parameters
    ----------
    options : Options
    data : str or None
        The text file; None for the embedded names.

    Attributes
    ----------
    step : int
        Steps taken so far.
    model : GPT
    tokenizer : Tokenizer
    rng : random.Random
        Where the documents' order and the parameters came from; samples go on from there.
    """

    def __init__(self, options: Options, data: str | None = None) -> None:
        self.options = options
        self.data = None if data is None else os.path.abspath(data)
        self.step = 0
        documents = read_documents(data)
        self.data_hash = hashlib.sha256("\n".join(documents).encode()).hexdigest()
        self.rng = random.Random(options.seed)
        self.rng.shuffle(documents)
        self.documents = documents
        self.tokenizer = Tokenizer("".join(documents))
        self.model = _new_model(options, self.tokenizer.vocab_size, self.rng)
        self.optimizer = Adam([self.model.emb, *self.model.weights.values()], lr=options.lr, betas=(0.85, 0.99), eps=1e-8)

    def train(self, stop_at: int) -> Iterator[float]:
        """Take steps until ``stop_at`` are done, yielding the loss of each."""
        while self.step < stop_at:
            document = self.documents[self.step % len(self.documents)]
            self.optimizer.zero_grad()
            loss = self.model.loss(self.tokenizer.encode(document))
            self.optimizer.lr = self.options.lr * (1 - self.step / self.options.steps)
            self.optimizer.step()
            self.step += 1
            yield loss

    def save(self, path: str) -> None:
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
        """The optimiser's arrays, each under its state's name and its parameter's."""
        names = [{"wte": "wte", "wpe": "wpe"}, *({"data": name} for name in self.model.weights)]
        return {
            f"{state}.{owner[name]}": array
            for owner, item in zip(names, self.optimizer.state_dict()["items"], strict=True)
            for state in ("exp_avg", "exp_avg_sq")
            for name, array in item[state].items()
        }

    @classmethod
    def resume(cls, path: str, data: str | None = None) -> Run:
        """The run that `save` wrote.

        Parameters
        ----------
        path : str
        data : str or None
            The text file, where it has moved; its content must be the same.

        Raises
        ------
        OSError, CheckpointError
            The checkpoint or the data cannot be read, or do not go together.
        """
        tensors, description = checkpoint.load(path)
        options, step, characters, rng = _parsed(tensors, description)
        run = cls(options, data if data is not None else description.get("data"))
        if run.data_hash != description.get("data_sha256") or run.tokenizer.characters != characters:
            raise CheckpointError(f"the text of {run.data or 'the embedded names'} is not the one that {path} was trained on")
        state = run.model.state_dict()
        moments = run._optimizer_tensors()
        loaded = checkpoint.checked(tensors, state | moments)
        run.model.load_state_dict(loaded)
        for name, array in moments.items():
            array[...] = loaded[name]
        saved = run.optimizer.state_dict()
        run.optimizer.load_state_dict(saved | {"items": [item | {"step": step} for item in saved["items"]]})
        run.step = step
        run.rng = rng
        return run


def load_model(path: str) -> tuple[GPT, Tokenizer, random.Random]:
    """The model of a checkpoint, its characters, and its generator, without the data it was trained on.

    Raises
    ------
    OSError, CheckpointError
        The file cannot be read, or is not such a checkpoint.
    """
    tensors, description = checkpoint.load(path)
    options, _, characters, rng = _parsed(tensors, description)
    tokenizer = Tokenizer(characters)
    model = _new_model(options, tokenizer.vocab_size, random.Random(0))
    names = model.state_dict()
    model.load_state_dict(checkpoint.checked({name: tensors[name] for name in names if name in tensors}, names))
    return model, tokenizer, rng


def _new_model(options: Options, vocab_size: int, rng: random.Random) -> GPT:
    return GPT(
        vocab_size,
        options.block_size,
        options.n_embd,
        options.n_head,
        options.n_layer,
        dtype=options.dtype,
        rng=rng,
    )


def _parsed(tensors: dict[str, Any], description: Any) -> tuple[Options, int, list[str], random.Random]:
    """Options, step, characters and generator from a checkpoint's description, each checked.

    The sizes are compared with the tensors before anything of those sizes is made.
    """
    try:
        given = description["options"]
        options = Options(**{field.name: type(getattr(Options, field.name))(given[field.name]) for field in fields(Options)})
        step, characters = int(description["step"]), [str(c) for c in description["characters"]]
        version, internal, gauss_next = description["rng"]
        rng = random.Random()
        rng.setstate((version, tuple(internal), gauss_next))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"the checkpoint does not describe a training run: {error!r}") from error
    if not 0 <= step <= options.steps or characters != sorted(set(characters)):
        raise CheckpointError(f"the checkpoint's step {step} or its characters are not those of a training run")
    shapes = {name: tensors[name].shape for name in ("wte", "wpe") if name in tensors}
    expected = {"wte": (len(characters) + 1, options.n_embd), "wpe": (options.block_size, options.n_embd)}
    if shapes != expected or options.n_layer > len(tensors):
        raise CheckpointError(f"the checkpoint describes tables of shapes {expected} and holds {shapes}")
    return options, step, characters, rng
