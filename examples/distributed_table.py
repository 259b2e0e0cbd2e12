"""A table over the ranks of MPI: its memory, the time of a step, and the bytes that are sent.

    mpiexec -n 4 python examples/distributed_table.py                   # a quarter of the memory
    mpiexec -n 4 python examples/distributed_table.py --rows 100000000  # 26 GB; in float16 13
    mpiexec -n 4 python examples/distributed_table.py --per-rank        # weak scaling
    python examples/distributed_table.py --local                        # one process, without MPI

Ids are drawn as words are: the frequency of the k-th is about 1 / k. Rank 0 prints, and with --json
writes what examples/scale_model.py reads.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

import numpy as np

import fastembed as fe
from fastembed import distributed


def main() -> None:
    arguments = parsed()
    group = distributed.local() if arguments.local else distributed.mpi(deadline=600)
    n_rows = arguments.rows or rows_for_memory(group, arguments.columns, np.dtype(arguments.dtype).itemsize)
    start = time.perf_counter()
    layer = new_layer(group, n_rows, arguments)
    opt = fe.optim.RowWiseAdagrad(layer, lr=0.05)
    group.barrier()
    say(group, f"{n_rows:,} rows of {arguments.columns} in {group.size} ranks, {time.perf_counter() - start:.1f} s to make them")
    found = measured(group, layer, opt, arguments)
    say(group, f"memory of rank 0: {peak_memory() / 1e9:.2f} GB, of which rows {layer.weight.nbytes / 1e9:.2f} GB")
    say(group, f"a step of {found['tokens']:,} tokens in all: {found['seconds'] * 1e3:.2f} ms, quartile of {arguments.steps}")
    say(group, f"sent by rank 0 in a step: {found['bytes']:,} bytes, by the formula {found['formula']:,}")
    if group.rank == 0 and arguments.json:
        with open(arguments.json, "a", encoding="ascii") as file:
            file.write(json.dumps(found) + "\n")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="of the whole table (default: for a quarter of this machine's memory)")
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16"), help="(default: %(default)s)")
    parser.add_argument("--zeros", action="store_true", help="rows of zeros, instead of drawing them")
    parser.add_argument("--tokens", type=int, default=8192, help="of a step in all ranks (default: %(default)s)")
    parser.add_argument("--per-rank", action="store_true", help="--tokens are those of each rank")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--fast", action="store_true", help="exact=False: sums of each rank")
    parser.add_argument("--local", action="store_true", help="one process without MPI")
    parser.add_argument("--json", metavar="FILE", help="append the figures here, a line for each run")
    return parser.parse_args()


def new_layer(group: distributed.Group, n_rows: int, arguments: argparse.Namespace) -> distributed.ShardedEmbedding:
    """A layer with normal random numbers, or zeros, which take seconds where those take minutes."""
    options: dict[str, Any] = {"partition": "hash", "exact": not arguments.fast}
    if arguments.zeros:
        zeros = np.broadcast_to(np.zeros(1, arguments.dtype), (n_rows, arguments.columns))
        return distributed.ShardedEmbedding.from_pretrained(group, zeros, **options)
    return distributed.ShardedEmbedding(group, n_rows, arguments.columns, dtype=arguments.dtype, std=0.02, rng=0, **options)


def rows_for_memory(group: distributed.Group, n_cols: int, itemsize: int) -> int:
    """Rows, with a float32 of state each, for a quarter of this machine's free memory.

    All ranks are taken to be on machines like that of rank 0; those on the same one share it.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    machines = {bytes(name).rstrip(b"\0") for name in group.allgather("machines", machine_name())}
    wanted = len(machines) * free // 4 // (itemsize * n_cols + 4)
    return int(group.allgather("rows", np.array(wanted))[0])


def machine_name() -> np.ndarray[Any, Any]:
    return np.frombuffer(os.uname().nodename.encode()[:64].ljust(64, b"\0"), np.uint8)


def batch(step: int, rank: int, n_tokens: int, n_rows: int) -> np.ndarray[Any, Any]:
    """Ids of one rank: log-uniform, so that the k-th has a share of about 1 / k."""
    rng = np.random.default_rng([step, rank])
    return np.exp(rng.random(n_tokens) * np.log(n_rows)).astype(np.int64) - 1


def measured(
    group: distributed.Group, layer: distributed.ShardedEmbedding, opt: Any, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The first quartile of a step's times, since others use a machine too, and its bytes."""
    n_tokens = arguments.tokens if arguments.per_rank else arguments.tokens // group.size
    times, sent, formula = [], 0, 0
    for step in range(arguments.steps + 3):
        ids = batch(step, group.rank, n_tokens, layer.num_embeddings)
        formula = bytes_of_step(group, layer, ids)
        group.barrier()
        before, start = group.bytes_sent, time.perf_counter()
        x = layer(ids)
        layer.backward(x - 1, optimizer=opt)
        seconds, sent = time.perf_counter() - start, group.bytes_sent - before
        slowest = float(group.allgather("seconds", np.array(seconds)).max())
        if step >= 3:  # the first ones touch new memory
            times.append(slowest)
    return {
        "ranks": group.size, "rows": layer.num_embeddings, "columns": layer.embedding_dim, "tokens": n_tokens * group.size,
        "exact": layer.exact, "processors": len(os.sched_getaffinity(0)), "seconds": float(np.quantile(times, 0.25)),
        "bytes": sent, "formula": formula,
    }  # fmt: skip


def bytes_of_step(group: distributed.Group, layer: distributed.ShardedEmbedding, ids: np.ndarray[Any, Any]) -> int:
    """What this rank sends in a step, by docs/scale.md."""
    distinct = np.unique(ids)
    asked = np.bincount(layer.partition.place(distinct)[0], minlength=group.size)
    given = np.bincount(layer.partition.place(ids if layer.exact else distinct)[0], minlength=group.size)
    asked_of_me = group.alltoall("asked", asked[:, None])[:, 0]
    others = np.arange(group.size) != group.rank
    of_row, of_gradient = layer.weight.itemsize * layer.embedding_dim, 4 * layer.embedding_dim
    agreements, ids, rows = 2 * 64 * (group.size - 1), 8 * asked[others].sum(), of_row * asked_of_me[others].sum()
    return int(agreements + ids + rows + (8 + of_gradient) * given[others].sum())


def peak_memory() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(group: distributed.Group, text: str) -> None:
    """Rank 0 alone speaks."""
    if group.rank == 0:
        print(text, flush=True)


if __name__ == "__main__":
    main()
