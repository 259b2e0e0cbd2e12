"""``sample``, ``neighbors`` and ``info``: what is in a model or in a file."""

from __future__ import annotations

import argparse
import json
import random
import textwrap

from .. import _runtime
from .._messages import printable
from ..io import checkpoint
from ..microgpt.model import GPT, Tokenizer
from ..microgpt.training import load_model
from .streams import Output


def sample(arguments: argparse.Namespace, out: Output) -> None:
    model, tokenizer, rng = load_model(arguments.checkpoint)
    show_samples(model, tokenizer, rng if arguments.seed is None else random.Random(arguments.seed), arguments, out)


def show_samples(model: GPT, tokenizer: Tokenizer, rng: random.Random, arguments: argparse.Namespace, out: Output) -> None:
    for k in range(arguments.samples):
        out.show(f"sample {k + 1:2d}: {printable(model.sample(tokenizer, rng, arguments.temperature))}")


def neighbors(arguments: argparse.Namespace, out: Output) -> None:
    model, tokenizer, _ = load_model(arguments.checkpoint)
    token_ids = range(tokenizer.vocab_size) if arguments.token is None else [tokenizer.id_of(arguments.token)]
    for token_id in token_ids:
        show_neighbors(model, tokenizer, token_id, arguments.k, out)


def show_neighbors(model: GPT, tokenizer: Tokenizer, token_id: int, k: int, out: Output) -> None:
    found = model.emb.nearest(token_id, min(k, tokenizer.vocab_size - 1), exclude_queries=True)
    pairs = zip(found.ids.tolist(), found.scores.tolist(), strict=True)
    near = "  ".join(f"{printable(tokenizer.name(i))} {cosine:+.2f}" for i, cosine in pairs)
    out.show(f"{printable(tokenizer.name(token_id))}: {near}")


def info(arguments: argparse.Namespace, out: Output) -> None:
    if arguments.checkpoint is None:
        out.show(_runtime.runtime_text())
        return
    found, description = checkpoint.statistics(arguments.checkpoint)
    about = description if isinstance(description, dict) else {"description": description}
    for key, value in about.items():
        out.show(f"{_plain(key)}: {textwrap.shorten(json.dumps(value), 100, placeholder=' ...')}")
    for name, what in found.items():
        out.show(f"{_plain(name)}: " + str(what).replace("\n", "\n  "))


def _plain(name: str) -> str:
    """A name from a file on one line, escaped and cut."""
    return textwrap.shorten(json.dumps(name)[1:-1], 80, placeholder="...")
