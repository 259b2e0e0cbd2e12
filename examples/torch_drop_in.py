"""Training in PyTorch in which only the imports change: the same losses, and the time of a step.

    python examples/torch_drop_in.py           # 50,257 x 768, 8 x 1,024 ids, 100 steps
    python examples/torch_drop_in.py --short   # small tables, 20 steps
    python examples/torch_drop_in.py --middle  # 20,000 x 64, 4 x 128 ids, 100 steps

Both programs run in one process, in turns of ten steps.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

import fastembed as fe


class Imports(NamedTuple):
    """What a program imports: the only difference between the two."""

    Embedding: Any
    EmbeddingBag: Any
    AdamW: Any
    SparseAdam: Any
    Adagrad: Any


def torch_imports() -> Imports:
    from torch.nn import Embedding, EmbeddingBag
    from torch.optim import Adagrad, AdamW, SparseAdam

    return Imports(Embedding, EmbeddingBag, AdamW, SparseAdam, Adagrad)


def fastembed_imports() -> Imports:
    from fastembed.adapters.torch import Embedding, EmbeddingBag
    from fastembed.adapters.torch.optim import Adagrad, AdamW, SparseAdam

    return Imports(Embedding, EmbeddingBag, AdamW, SparseAdam, Adagrad)


class Sizes(NamedTuple):
    vocab_size: int = 50257
    n_embd: int = 768
    n_sequences: int = 8
    n_ids: int = 1024  # of a sequence
    n_classes: int = 16
    n_steps: int = 100


SHORT = Sizes(500, 32, 2, 64, 4, 20)
MIDDLE = Sizes(20_000, 64, 4, 128)
BAG = 16  # ids
TURN = 10  # steps of one program, before the other takes as many with the same batches

Step = Callable[[torch.Tensor, torch.Tensor], float]


def _step(vectors: Callable[[torch.Tensor], torch.Tensor], head: Any, opts: list[Any]) -> Step:
    """A program's training step: ids and classes to the loss."""

    def step(ids: torch.Tensor, classes: torch.Tensor) -> float:
        for opt in opts:
            opt.zero_grad()
        logits = head(vectors(ids))
        loss = torch.nn.functional.cross_entropy(logits, classes[: len(logits)])
        loss.backward()
        for opt in opts:
            opt.step()
        return loss.item()

    return step


def adamw(of: Imports, sizes: Sizes) -> Step:
    """A class for each sequence, from the mean of its rows; a dense AdamW over all parameters."""
    embedding, head = of.Embedding(sizes.vocab_size, sizes.n_embd), torch.nn.Linear(sizes.n_embd, sizes.n_classes)
    opt = of.AdamW([*embedding.parameters(), *head.parameters()], lr=1e-3, fused=True)
    return _step(lambda ids: embedding(ids).mean(1), head, [opt])


def adamw_tokens(of: Imports, sizes: Sizes) -> Step:
    """The same with a class for each token."""
    embedding, head = of.Embedding(sizes.vocab_size, sizes.n_embd), torch.nn.Linear(sizes.n_embd, sizes.n_classes)
    opt = of.AdamW([*embedding.parameters(), *head.parameters()], lr=1e-3, fused=True)
    return _step(lambda ids: embedding(ids).flatten(0, 1), head, [opt])


def sparse_adam(of: Imports, sizes: Sizes) -> Step:
    """A class for each sequence; sparse gradients and SparseAdam, and AdamW for the head."""
    embedding = of.Embedding(sizes.vocab_size, sizes.n_embd, sparse=True)
    head = torch.nn.Linear(sizes.n_embd, sizes.n_classes)
    opts = [of.SparseAdam(embedding.parameters(), lr=1e-3), of.AdamW(head.parameters(), fused=True)]
    return _step(lambda ids: embedding(ids).mean(1), head, opts)


def bag_adagrad(of: Imports, sizes: Sizes) -> Step:
    """A class for each bag of 16 ids; sparse gradients, and Adagrad over all parameters."""
    bag = of.EmbeddingBag(sizes.vocab_size, sizes.n_embd, sparse=True)
    head = torch.nn.Linear(sizes.n_embd, sizes.n_classes)
    opt = of.Adagrad([*bag.parameters(), *head.parameters()], lr=1e-2)
    return _step(lambda ids: bag(ids.reshape(-1, BAG)), head, [opt])


PROGRAMS = {
    "AdamW": adamw, "AdamW, classes of tokens": adamw_tokens, "SparseAdam": sparse_adam, "EmbeddingBag, Adagrad": bag_adagrad,
}  # fmt: skip


def batches(sizes: Sizes) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Ids that follow Zipf's law, and a class for each."""
    generator = torch.Generator().manual_seed(1)
    p = 1 / torch.arange(3, sizes.vocab_size + 3)
    for _ in range(sizes.n_steps):
        ids = torch.multinomial(p, sizes.n_sequences * sizes.n_ids, replacement=True, generator=generator)
        classes = torch.randint(sizes.n_classes, ids.shape, generator=generator)
        yield ids.reshape(sizes.n_sequences, -1), classes


def compare(program: Callable[[Imports, Sizes], Step], sizes: Sizes) -> tuple[float, float, float]:
    """The largest difference of losses, and the median seconds of PyTorch's steps and ours."""
    steps, losses, seconds = [], ([], []), ([], [])
    for of in (torch_imports(), fastembed_imports()):
        torch.manual_seed(0)
        steps.append(program(of, sizes))
    drawn = batches(sizes)
    while turn := list(itertools.islice(drawn, TURN)):
        for k, step in enumerate(steps):
            for batch in turn:
                start = time.perf_counter()
                losses[k].append(step(*batch))
                seconds[k].append(time.perf_counter() - start)
    difference = max(abs(a - b) for a, b in zip(*losses, strict=True))
    theirs, ours = (statistics.median(of_one[len(of_one) // 10 :]) for of_one in seconds)
    return difference, theirs, ours


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--short", dest="sizes", action="store_const", const=SHORT, default=Sizes(), help="small tables, 20 steps"
    )
    parser.add_argument("--middle", dest="sizes", action="store_const", const=MIDDLE, help="20,000 x 64")
    parser.add_argument("--only", choices=list(PROGRAMS), help="one of the programs")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    torch.sparse.check_sparse_tensor_invariants.disable()  # said explicitly, PyTorch does not warn that it is off
    torch.set_num_threads(given.threads)
    fe.set_num_threads(given.threads)
    for name, program in PROGRAMS.items():
        if given.only in (None, name):
            difference, theirs, ours = compare(program, given.sizes)
            print(
                f"{name}: PyTorch {theirs * 1e3:.2f} ms a step, fastembed {ours * 1e3:.2f} ms, "
                f"{theirs / ours:.1f} times faster; losses differ by at most {difference:.1e}"
            )


if __name__ == "__main__":
    main()
