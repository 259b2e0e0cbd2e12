"""Time the layers of fastembed.adapters.torch against those of torch.nn: medians in microseconds.

python examples/torch_layers.py               # tables of 50,257 rows, two threads
python examples/torch_layers.py --calls       # short calls alone, against F.embedding
python examples/torch_layers.py --threads 1
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

import fastembed as fe
import fastembed.adapters.torch as ft
from fastembed.adapters.torch import tables

V, ROUNDS = 50_257, 9
TURN, REST = 0.01, 0.02  # seconds; rest, since threads of OpenMP go on spinning for some milliseconds


class Owner:
    """Stands for an optimiser that takes gradients as rows."""


def medians(contenders: dict[str, Callable[[], object]], rounds: int = ROUNDS, rest: float = REST) -> dict[str, float]:
    """The median time of a call of each contender, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    numbers = {}
    for name, call in contenders.items():
        call()
        start = time.perf_counter()
        call()
        numbers[name] = max(1, min(2000, int(TURN / (time.perf_counter() - start))))
    for _ in range(rounds):
        for name, call in contenders.items():
            time.sleep(rest)
            start = time.perf_counter()
            for _ in range(numbers[name]):
                call()
            times[name].append((time.perf_counter() - start) / numbers[name] * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def look_up(layer: nn.Module, *arguments: torch.Tensor) -> Callable[[], object]:
    def call() -> None:
        with torch.no_grad():
            layer(*arguments)

    return call


def train(layer: nn.Module, *arguments: torch.Tensor) -> Callable[[], object]:
    dout = torch.randn_like(layer(*arguments))

    def call() -> None:
        layer._parameters["weight"].grad = None
        layer(*arguments).backward(dout)

    return call


def compare(n_cols: int, *arguments: torch.Tensor, **options: str) -> None:
    kind = nn.EmbeddingBag if options else nn.Embedding
    theirs = kind(V, n_cols, **options)
    ours = ft.convert(kind(V, n_cols, **options))
    owned, owner = ft.convert(kind(V, n_cols, **options)), Owner()
    tables.own_rows(owned.weight, owner)
    sparse = kind(V, n_cols, sparse=True, **options)
    forward = medians({"PyTorch": look_up(theirs, *arguments), "fastembed": look_up(ours, *arguments)})
    both = medians({
        "PyTorch": train(theirs, *arguments), "fastembed": train(ours, *arguments),
        "PyTorch, sparse": train(sparse, *arguments), "fastembed, rows": train(owned, *arguments),
    })  # fmt: skip
    print(f"{tuple(arguments[0].shape)} ids x {n_cols}", *options.values())
    for what, times in (("look-up", forward), ("with backward", both)):
        print(f"    {what:14}", ", ".join(f"{name} {value:,.1f}" for name, value in times.items()))


def compare_calls() -> None:
    """Calls of 8 ids, in which the parts in Python count: F.embedding, and modules around it."""
    ids = torch.randint(100, (8,))
    theirs = nn.Embedding(100, 64)
    ours = ft.convert(nn.Embedding(100, 64))
    weight = theirs.weight
    contenders = {"F.embedding": lambda: F.embedding(ids, weight), "nn": lambda: theirs(ids), "fastembed": lambda: ours(ids)}
    dout = torch.randn(8, 64)

    def backward_of(call: Callable[[], torch.Tensor], weight: nn.Parameter) -> Callable[[], object]:
        def both() -> None:
            weight.grad = None
            call().backward(dout)

        return both

    weights = {"F.embedding": weight, "nn": weight, "fastembed": ours.weight}
    both = {name: backward_of(call, weights[name]) for name, call in contenders.items()}
    print("8 ids x 64, calls in a row")
    for what, calls in (("look-up", contenders), ("with backward", both)):
        times = medians(calls, rounds=51, rest=0)
        print(f"    {what:14}", ", ".join(f"{name} {us:.2f} ({us / times['F.embedding']:.2f})" for name, us in times.items()))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", action="store_true", help="only short calls")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    fe.set_num_threads(given.threads)
    compare_calls()
    if given.calls:
        return
    for n_ids, n_cols in ((8, 64), (512, 64), (2048, 768), (8192, 768)):
        compare(n_cols, torch.randint(V, (n_ids,)))
    for mode in ("sum", "mean"):
        compare(64, torch.randint(V, (512, 20)), mode=mode)


if __name__ == "__main__":
    main()
