"""Every workload, defined once: what it does, its cases, the expected answer, the contenders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import reference
from . import cases, peers, traces
from .beside import against_itself
from .cases import Case, uniform, zipf
from .peers import Contender, Inputs
from .timing import Answer


@dataclass(frozen=True)
class Workload:
    """One thing to measure.

    Attributes
    ----------
    id, what : str
        Its name on the command line, and a short text on what it does.
    cases : callable
        ``cases(quick)`` yields the cases one by one, so that only one is in memory.
    answer : callable
        The expected answer for batch 0, by a formula that shares no code with the C kernels.
    contenders : tuple of Contender
    threaded : bool
        Whether the number of threads can matter; if not, it runs with one setting of them.
    shows : {"speed", "wins", "growth"}
        The kind of its summary: ratios, cases won, or cost against size.
    takes_minutes : bool
        Whether one call takes minutes: it is timed three times at most, and only if named.
    is_usual : bool
        Whether it runs if no workload is named.
    """

    id: str
    what: str
    cases: Callable[[bool], Iterator[Case]]
    answer: Callable[[Inputs], Answer]
    contenders: tuple[Contender, ...]
    threaded: bool = True
    shows: str = "speed"
    takes_minutes: bool = False
    is_usual: bool = True


def forward_answer(inputs: Inputs) -> Answer:
    """The reference for small inputs, NumPy for large ones.

    It is one addition, so that NumPy's bits are the reference's.
    """
    wte, ids, wpe = inputs.wte, inputs.ids[0], inputs.wpe
    if cases.is_small(inputs):
        rows = reference.gather_add(wte.tolist(), ids.tolist(), wpe.tolist(), dtype=str(wte.dtype))
        return (np.array(rows, wte.dtype),)
    return (wte[ids] + wpe[: ids.shape[-1]],)


def token_answer(inputs: Inputs) -> Answer:
    """The reference's answer for one token at one position."""
    wte, wpe = inputs.wte, inputs.wpe
    row = reference.gather_add(wte.tolist(), peers.TOKEN, wpe.tolist(), peers.POSITION, dtype=str(wte.dtype))
    return (np.array(row, wte.dtype),)


def backward_answer(inputs: Inputs) -> Answer:
    """The reference for small inputs, NumPy's sums in the same order for large ones."""
    ids, dout, dtype = inputs.ids[0], inputs.douts[0], inputs.wte.dtype
    shapes = inputs.wte.shape, (ids.shape[-1], inputs.wte.shape[1])
    if cases.is_small(inputs):
        lists: list[Any] = [np.zeros(shape).tolist() for shape in shapes]
        reference.gather_add_backward(dout.tolist(), ids.tolist(), *lists, dtype=str(dtype))
        return np.array(lists[0], dtype), np.array(lists[1], dtype)
    dwte, dwpe = (np.zeros(shape, dtype) for shape in shapes)
    peers.add_in_order(dwte, dwpe, ids, dout)
    return dwte, dwpe


def no_answer(inputs: Inputs) -> Answer:
    """An import has no answer to check."""
    return ()


def _only(contenders: tuple[Contender, ...], *names: str) -> tuple[Contender, ...]:
    return tuple(contender for contender in contenders if contender.peer in names)


_NAME = (17, 14, 18, 4, 0)  # "rosea"
_ALL = (
    Workload("one-token", "emb(4, 2) in microgpt's tables", cases.microgpt(_NAME), token_answer, peers.ONE_TOKEN, False),
    Workload("one-name", "emb(ids) of a name of five letters", cases.microgpt(_NAME), forward_answer, peers.ONE_NAME, False),
    Workload("few-bags", "the sums of two bags", cases.few_bags(None), peers.bag_answer("sum"), peers.FEW_BAGS, False),
    Workload(
        "few-bags-int8",
        "the sums of two bags, 8 bits an element",
        cases.few_bags(8),
        peers.quantized_answer,
        peers.FEW_PACKED_BAGS,
        False,
    ),
    Workload(
        "gpt2-forward-zipf",
        "token plus position rows, ids as in text, out=",
        cases.gpt2(zipf),
        forward_answer,
        peers.FORWARD,
    ),
    Workload(
        "gpt2-forward-uniform",
        "token plus position rows, uniform ids, out=",
        cases.gpt2(uniform),
        forward_answer,
        peers.FORWARD,
    ),
    Workload(
        "gpt2-forward-fresh",
        "token plus position rows, ids as in text, into a fresh array",
        cases.gpt2(zipf),
        forward_answer,
        peers.FRESH,
    ),
    Workload("forward-then-read", "forward, and NumPy sums the result", cases.read_sizes, forward_answer, peers.READ),
    Workload(
        "random-shapes",
        "forward at random sizes and dtypes",
        cases.random_shapes,
        forward_answer,
        _only(peers.FORWARD, peers.OURS, "numpy", "torch"),
        shows="wins",
    ),
    Workload(
        "gpt2-forward-norm",
        "forward and RMSNorm, ids as in text, out=",
        cases.gpt2_without_bytes(zipf),
        peers.norm_answer,
        peers.NORM,
    ),
    Workload("gpt2-backward-zipf", "both gradients, ids as in text", cases.gpt2(zipf, True), backward_answer, peers.BACKWARD),
    Workload("gpt2-backward-uniform", "both gradients, uniform ids", cases.gpt2(uniform, True), backward_answer, peers.BACKWARD),
    *(
        Workload(
            f"gpt2-step-{id}",
            f"forward, backward, {name}",
            cases.gpt2_without_bytes(zipf, True),
            peers.step_answer(name),
            peers.STEP[name],
        )
        for id, name in (
            ("sgd", "SGD"),
            ("rowwise-adagrad", "RowWiseAdagrad"),
            ("sparse-adam", "SparseAdam"),
            ("adam", "Adam"),
            ("adamw", "AdamW"),
        )
    ),
    Workload(
        "long-run",
        f"{cases.LONG_RUN_STEPS:,} steps of exact Adam, the final tables compared",
        cases.long_run,
        peers.long_run_answer(cases.LONG_RUN_STEPS),
        peers.long_run(cases.LONG_RUN_STEPS),
        takes_minutes=True,
    ),
    *(
        Workload(f"bag-{mode}", f"the {mode} of the rows of each bag, out=", cases.bags, peers.bag_answer(mode), peers.BAGS[mode])
        for mode in ("sum", "mean")
    ),
    *(
        Workload(
            f"bag-int{bits}",
            f"the sum of the rows of each bag, {bits} bits an element, out=",
            cases.packed_bags(bits),
            peers.quantized_answer,
            peers.QUANTIZED[bits],
        )
        for bits in (8, 4)
    ),
    Workload(
        "bag-reuse",
        "the sum of the rows of each bag, ids repeated as in Meta's traces, out=",
        cases.bags_of(traces.reused, 16),
        peers.bag_answer("sum"),
        peers.BAGS["sum"],
    ),
    Workload("many-tables", "sums of bags of many small tables, out=", traces.small_tables, peers.many_answer, peers.MANY),
    Workload(
        "mlperf-int4", "sums of bags of MLPerf's tables / 16, out=", traces.mlperf_packed(16), peers.many_answer, peers.MANY
    ),
    Workload(
        "mlperf-int4-full",
        "sums of bags of MLPerf's tables, 13.9 GB, out=",
        traces.mlperf_packed(1),
        peers.many_answer,
        peers.MANY_IN_PLACE,
        is_usual=False,
    ),
    Workload(
        "mlperf-step",
        "step of row-wise Adagrad on MLPerf's tables / 128",
        traces.mlperf_trained(128),
        peers.many_step_answer,
        peers.MANY_STEP,
    ),
    Workload(
        "mlperf-step-32",
        "step of row-wise Adagrad on MLPerf's tables / 32",
        traces.mlperf_trained(32),
        peers.many_step_answer,
        peers.MANY_STEP,
        is_usual=False,
    ),
    Workload(
        "half-lookup",
        "rows of float16 and bfloat16, ids as in text, out=",
        cases.halves(cases.gpt2(zipf)),
        peers.half_lookup_answer,
        peers.HALF_LOOKUP,
    ),
    Workload(
        "half-forward",
        "token plus position rows of float16 and bfloat16, out=",
        cases.halves(cases.gpt2(zipf)),
        peers.half_forward_answer,
        peers.HALF_FORWARD,
    ),
    Workload(
        "half-bag-sum",
        "the sum of the rows of each bag, of float16 and bfloat16, out=",
        cases.halves(cases.bags),
        peers.half_bag_answer,
        peers.HALF_BAG,
    ),
    *(
        Workload(
            f"half-step-{id}",
            f"forward, backward, {name} of float16 and bfloat16",
            cases.halves(cases.gpt2(zipf, True)),
            peers.half_step_answer(name),
            peers.HALF_STEP[name],
        )
        for id, name in (("sgd", "SGD"), ("rowwise-adagrad", "RowWiseAdagrad"), ("adamw", "AdamW"))
    ),
    Workload(
        "ngram-fp8",
        "hash the n-grams of a text, decode their rows of FP8, out=",
        traces.ngrams,
        peers.ngram_answer,
        peers.NGRAM,
        is_usual=False,
    ),
    Workload("hash-embed", "hash each id, sum its four rows, out=", cases.hashed, peers.hash_answer, peers.HASHED),
    *(
        Workload(id, f"the ten rows of largest {name}", cases.searches, peers.nearest_answer(metric), peers.NEAREST[way])
        for id, name, metric, way in (
            ("nearest", "cosine", "cosine", "cosine"),
            ("nearest-index", "cosine, by an index", "cosine", "indexed"),
            ("nearest-dot", "product", "dot", "dot"),
        )
    ),
    Workload("mapped-gather", "rows of a table in a mapped file", cases.mapped, peers.mapped_answer, peers.MAPPED),
    Workload("shared-gather", "rows of a shared table", cases.shared, peers.mapped_answer, peers.SHARED, False),
    Workload(
        "shared-beside",
        "rows of a shared table, beside a process that trains it",
        cases.shared,
        peers.mapped_answer,
        peers.SHARED_BESIDE,
        False,
    ),
    Workload(
        "ngram-disk",
        "FP8 rows of n-grams of text, in a file",
        cases.ngram_disk,
        peers.ngram_disk_answer,
        peers.NGRAM_DISK,
    ),
    Workload("import", "import after NumPy, in a fresh process", cases.no_tables, no_answer, peers.IMPORT, False),
    Workload(
        "growth",
        "forward: cost per id, and per touched row, as ids and tables grow",
        cases.growth(False),
        forward_answer,
        _only(peers.FORWARD, peers.OURS, "numpy"),
        shows="growth",
    ),
    Workload(
        "growth-backward",
        "backward: cost per id, and per touched row, as ids and tables grow",
        cases.growth(True),
        backward_answer,
        _only(peers.BACKWARD, peers.OURS, "torch"),
        shows="growth",
    ),
    Workload(
        "growth-step",
        "step of SparseAdam: cost per id, and per touched row, as ids and tables grow",
        cases.growth(True),
        peers.step_answer("SparseAdam"),
        _only(peers.STEP["SparseAdam"], peers.OURS, "torch"),
        shows="growth",
        takes_minutes=True,
    ),
)


def _against_itself(workload: Workload, is_beside: bool) -> Workload:
    """The same work: does a second thread gain, and does it lose nothing beside another pool?"""
    prefix, where = ("beside", "in turns with PyTorch's threads") if is_beside else ("second-core", "alone")
    return replace(
        workload,
        id=f"{prefix}-{workload.id}",
        what=f"{workload.what}; {where}, against one thread",
        contenders=against_itself(workload.contenders, is_beside),
        is_usual=False,
    )


_THREADED = [
    workload
    for workload in _ALL
    if workload.threaded
    and workload.is_usual
    and workload.shows == "speed"
    and not workload.takes_minutes
    and workload.id not in ("mapped-gather", "ngram-disk")
]
WORKLOADS = {
    workload.id: workload
    for workload in (*_ALL, *(_against_itself(workload, is_beside) for is_beside in (False, True) for workload in _THREADED))
}
USUAL = tuple(id for id, workload in WORKLOADS.items() if workload.is_usual and not workload.takes_minutes)
