"""``sample``, ``neighbors``: what a model draws, and which rows of it are alike."""

from __future__ import annotations

import argparse
import json
import random

from .._messages import printable
from ..microgpt.model import GPT, Tokenizer
from ..microgpt.training import load_model
from .streams import Output


def sample(arguments: argparse.Namespace, out: Output) -> None:
    model, tokenizer, rng = load_model(arguments.checkpoint)
    rng = rng if arguments.seed is None else random.Random(arguments.seed)
    if not arguments.json:
        show_samples(model, tokenizer, rng, arguments, out, arguments.prompt)
        return
    drawn = [model.sample(tokenizer, rng, arguments.temperature, arguments.prompt) for _ in range(arguments.samples)]
    out.show(json.dumps(drawn))


def show_samples(
    model: GPT, tokenizer: Tokenizer, rng: random.Random, arguments: argparse.Namespace, out: Output, prompt: str = ""
) -> None:
    for k in range(arguments.samples):
        out.show(f"sample {k + 1:2d}: {printable(model.sample(tokenizer, rng, arguments.temperature, prompt))}")


def neighbors(arguments: argparse.Namespace, out: Output) -> None:
    model, tokenizer, _ = load_model(arguments.checkpoint)
    token_ids = range(tokenizer.vocab_size) if arguments.token is None else [tokenizer.id_of(arguments.token)]
    if arguments.json:
        out.show(json.dumps({tokenizer.name(i): _neighbors(model, tokenizer, i, arguments.k) for i in token_ids}))
        return
    for token_id in token_ids:
        show_neighbors(model, tokenizer, token_id, arguments.k, out)


def show_neighbors(model: GPT, tokenizer: Tokenizer, token_id: int, k: int, out: Output) -> None:
    pairs = _neighbors(model, tokenizer, token_id, k)
    near = "  ".join(f"{printable(name)} {cosine:+.2f}" for name, cosine in pairs)
    out.show(f"{printable(tokenizer.name(token_id))}: {near}")


def _neighbors(model: GPT, tokenizer: Tokenizer, token_id: int, k: int) -> list[tuple[str, float]]:
    found = model.emb.nearest(token_id, min(k, tokenizer.vocab_size - 1), exclude_queries=True)
    return [(tokenizer.name(i), cosine) for i, cosine in zip(found.ids.tolist(), found.scores.tolist(), strict=True)]
