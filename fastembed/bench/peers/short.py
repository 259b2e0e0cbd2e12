"""Calls of about a microsecond, and the import, which happens once per process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ... import QuantizedEmbedding, TokenPositionEmbedding, embedding_bag
from ..timing import Answer, Ready, ready_statement
from .base import OURS, Contender, Inputs, contender

TOKEN, POSITION = 4, 2  # the letter 'e' at position 2


@contender(OURS, f"emb({TOKEN}, {POSITION})")
def _ours_token(inputs: Inputs) -> Ready:
    return ready_statement(f"emb({TOKEN}, {POSITION})", {"emb": TokenPositionEmbedding.from_arrays(inputs.wte, inputs.wpe)})


@contender("numpy", f"wte[{TOKEN}] + wpe[{POSITION}]")
def _numpy_token(inputs: Inputs) -> Ready:
    return ready_statement(f"wte[{TOKEN}] + wpe[{POSITION}]", {"wte": inputs.wte, "wpe": inputs.wpe})


@contender("python", f"[a + b for a, b in zip(wte[{TOKEN}], wpe[{POSITION}])]")
def _python_token(inputs: Inputs) -> Ready:
    lists = {"wte": inputs.wte.tolist(), "wpe": inputs.wpe.tolist()}
    return ready_statement(f"[a + b for a, b in zip(wte[{TOKEN}], wpe[{POSITION}])]", lists)


@contender("torch", f"wte[{TOKEN}] + wpe[{POSITION}]")
def _torch_token(inputs: Inputs) -> Ready:
    import torch

    tables = {"wte": torch.from_numpy(inputs.wte), "wpe": torch.from_numpy(inputs.wpe)}
    return ready_statement(f"wte[{TOKEN}] + wpe[{POSITION}]", tables)


ONE_TOKEN = (_ours_token, _numpy_token, _python_token, _torch_token)


@contender(OURS, "emb(ids)")
def _ours_name(inputs: Inputs) -> Ready:
    emb = TokenPositionEmbedding.from_arrays(inputs.wte, inputs.wpe)
    return ready_statement("emb(ids)", {"emb": emb, "ids": inputs.ids[0]})


@contender("numpy", "wte[ids] + wpe[:5]")
def _numpy_name(inputs: Inputs) -> Ready:
    return ready_statement("wte[ids] + wpe[:5]", {"wte": inputs.wte, "wpe": inputs.wpe, "ids": inputs.ids[0]})


@contender("numpy", "wte.take(ids, 0) + wpe[:5]")
def _numpy_name_take(inputs: Inputs) -> Ready:
    return ready_statement("wte.take(ids, 0) + wpe[:5]", {"wte": inputs.wte, "wpe": inputs.wpe, "ids": inputs.ids[0]})


@contender("python", "nested list comprehension")
def _python_name(inputs: Inputs) -> Ready:
    statement = "[[a + b for a, b in zip(wte[token], row)] for token, row in zip(ids, wpe)]"
    return ready_statement(
        statement, {"wte": inputs.wte.tolist(), "wpe": inputs.wpe.tolist(), "ids": inputs.ids[0].tolist()}, number=2_000
    )


@contender("torch", "F.embedding(ids, wte) + wpe[:5]")
def _torch_name(inputs: Inputs) -> Ready:
    import torch

    names = {
        "wte": torch.from_numpy(inputs.wte),
        "wpe": torch.from_numpy(inputs.wpe),
        "ids": torch.from_numpy(inputs.ids[0]),
        "embedding": torch.nn.functional.embedding,
    }
    return ready_statement("embedding(ids, wte) + wpe[:5]", names, number=5_000)


ONE_NAME = (_ours_name, _numpy_name, _numpy_name_take, _python_name, _torch_name)


# ---- two bags of four ids, as a service looks up for one request ----


def _few_bags(inputs: Inputs) -> dict[str, Any]:
    """The table, the ids in one axis, and where each bag begins."""
    ids = inputs.ids[0]
    return {"table": inputs.wte, "ids": ids.reshape(-1), "offsets": np.arange(len(ids)) * ids.shape[1]}


def _few_bags_of_torch(inputs: Inputs) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array) for name, array in _few_bags(inputs).items()}


@contender(OURS, "embedding_bag")
def _ours_bags(inputs: Inputs) -> Ready:
    return ready_statement("bag(table, ids, offsets, mode='sum')", {"bag": embedding_bag, **_few_bags(inputs)})


@contender("numpy", "add.reduceat")
def _numpy_bags(inputs: Inputs) -> Ready:
    return ready_statement("add(table[ids], offsets)", {"add": np.add.reduceat, **_few_bags(inputs)})


@contender("torch", "F.embedding_bag")
def _torch_bags(inputs: Inputs) -> Ready:
    import torch

    names = {"bag": torch.nn.functional.embedding_bag, **_few_bags_of_torch(inputs)}
    return ready_statement("bag(ids, table, offsets, mode='sum')", names, number=5_000)


FEW_BAGS = (_ours_bags, _numpy_bags, _torch_bags)


@contender(OURS, "QuantizedEmbedding.bag")
def _ours_packed_bags(inputs: Inputs) -> Ready:
    names = _few_bags(inputs)
    return ready_statement("bag(ids, offsets, mode='sum')", names | {"bag": QuantizedEmbedding.from_float(names["table"]).bag})


@contender("torch", "ops.quantized")
def _torch_packed_bags(inputs: Inputs) -> Ready:
    import torch

    ops, names = torch.ops.quantized, _few_bags_of_torch(inputs)
    names |= {"packed": ops.embedding_bag_byte_prepack(names["table"]), "bag": ops.embedding_bag_byte_rowwise_offsets}
    return ready_statement("bag(packed, ids, offsets, False, 0, False, None, None, False)", names, number=5_000)


FEW_PACKED_BAGS = (_ours_packed_bags, _torch_packed_bags)


def _import_of(peer: str, module: str) -> Contender:
    """The import of a library in a fresh process that has imported NumPy already."""
    script = f"import numpy, time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"

    def import_seconds() -> float:
        # The package may be importable here only because of the working directory, which a child
        # need not have on its path.
        folders = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
        command = [sys.executable, "-W", "ignore", "-c", script]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise ImportError((result.stderr.splitlines() or ["no message"])[-1].removeprefix("ModuleNotFoundError: "))
        return float(result.stdout.split()[-1])

    def setup(inputs: Inputs) -> Ready:
        def answer(batch: int) -> Answer:
            import_seconds()
            return ()

        return Ready(answer, lambda batches: import_seconds())

    return Contender(peer, f"import {module}", setup)


IMPORT = (
    _import_of(OURS, "fastembed"),
    _import_of("thinc", "thinc.api"),
    _import_of("numba", "numba"),
    _import_of("torch", "torch"),
)
