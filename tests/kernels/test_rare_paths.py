"""Ways through the C that ordinary calls seldom take."""

import math
import os

import numpy as np
import pytest
from common import DTYPES, floats, needs_c, same_bits
from shared_look_up import output_of

import fastembed as fe
from fastembed import reference
from fastembed._kernels import backend

pytestmark = needs_c


@pytest.mark.parametrize("bits", [3, 11, 12, 22, 23, 34, 45, 56, 62])
@pytest.mark.parametrize("n", [64, 65, 3000])
def test_rows_of_any_size_are_sorted(bits, n):
    """One pass for 11 bits, up to six; few rows without passes. The sort is stable."""
    rows = np.random.default_rng(bits).integers(0, 1 << bits, n)
    rows[::3] = rows[0]
    in_order, order = backend.kernels.sort_rows(rows.copy(), (1 << bits) + 1)
    assert order.tolist() == np.argsort(rows, kind="stable").tolist()
    assert in_order.tolist() == np.sort(rows).tolist()


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_powers_are_the_reference_with_nan_and_infinity(dtype, p):
    rng = np.random.default_rng(0)
    for width in (0, 1, 15, 16, 17, 50):
        rows = floats(rng, (40, width), dtype)
        rows[:20] = np.nan_to_num(rows[:20], posinf=1, neginf=-1)  # rows without NaN too
        expected = [reference.rules.sum_powers(row, p) for row in rows.tolist()]
        assert same_bits(backend.kernels.sum_powers(rows, p), np.array(expected, np.float64).reshape(40))


def test_a_bad_id_in_a_tiled_look_up():
    """Documents whose position rows do not fit into the cache are looked up tile by tile."""
    rng = np.random.default_rng(0)
    wte, wpe = rng.standard_normal((30, 768)).astype("f4"), rng.standard_normal((400, 768)).astype("f4")
    ids = rng.integers(0, 30, (3, 400))
    for n in (1, 2):
        with fe.threads(n):
            assert same_bits(fe.gather_add(wte, ids, wpe), wte[ids] + wpe)
            for place in ((0, 0), (1, 77), (2, 399)):
                wrong = ids.copy()
                wrong[place] = 30
                with pytest.raises(IndexError, match=rf"token id 30 at position \({place[0]}, {place[1]}\)"):
                    fe.gather_add(wte, wrong, wpe)


@pytest.mark.fork
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_signal_handler_that_forks_during_a_look_up():
    """Parent and child both finish the call, the child without the threads that helped."""
    script = """
import os, signal, sys, numpy as np, fastembed as fe
table = np.arange(64_000, dtype="f4").reshape(1000, 64)
ids = np.broadcast_to(np.arange(1000), (4000, 1000))
out = np.lib.stride_tricks.as_strided(np.empty((1000, 64), "f4"), ids.shape + (64,), (0, 256, 4))
forks = []
signal.signal(signal.SIGALRM, lambda *_: forks.append(os.fork()))
fe.set_num_threads(2)
signal.setitimer(signal.ITIMER_REAL, 0.02)
while not forks:
    fe._kernels.backend.kernels.gather(table, ids, out, "raise")
right = bool((out[0] == table).all()) and bool((fe.gather(table, ids[:9]) == table).all())
if forks[0] == 0:
    sys.exit(0 if right else 3)
print(right, os.waitpid(forks[0], 0)[1])
"""
    assert output_of(script, "-W", "ignore") == "True 0\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there is no affinity here")
def test_threads_that_share_one_processor():
    """They cannot be kept from the caller's processor, which is the only one."""
    script = """
import os, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from shared_look_up import a_look_up
for _ in range(3):
    print(a_look_up(3))
    time.sleep(0.01)  # the workers go to sleep
"""
    assert output_of(script) == "True\nTrue\nTrue\n"


def test_many_pieces_that_fail():
    """Of pieces that fail on several threads, the one with the lowest number is reported."""
    table, ids = np.zeros((5, 64), "f4"), np.full(20_000, 5)
    with fe.threads(4):
        for _ in range(100):
            with pytest.raises(IndexError, match=r"id 5 at position \(0,\) is out of range"):
                fe.gather(table, ids)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_rows_of_a_table_that_is_not_in_the_cache(dtype):
    rng = np.random.default_rng(0)
    wte, wpe = rng.standard_normal((3000, 70)).astype(dtype), rng.standard_normal((9, 70)).astype(dtype)
    ids = rng.integers(0, 3000, (4, 9))
    assert same_bits(fe.gather_add(wte, ids, wpe), wte[ids] + wpe)


@pytest.mark.parametrize("bad", [0, 900, 1500])
def test_a_bad_id_in_a_long_bag_of_a_collection(bad):
    """Ids are checked a thousand at a time."""
    layer = fe.EmbeddingCollection({"t": fe.Embedding(5, 3, rng=0)}, {"a": "t", "b": "t"})
    ids = np.zeros(2000, np.int64)
    ids[bad] = 5
    with pytest.raises(IndexError, match="id 5 "):
        layer({"a": ([0], [0, 1]), "b": (ids, [0, 2000])})


@pytest.mark.parametrize("mode", ["sum", "max"])
def test_a_bag_of_packed_rows_that_is_longer_than_a_block(mode):
    rng = np.random.default_rng(0)
    table = fe.PackedTable(rng.integers(0, 100, (9, 68), np.uint8), 64, format="q8_0")
    ids = rng.integers(0, 9, 2500)
    expected = reference.embedding_bag(table(np.arange(9)).tolist(), ids.tolist(), [0], mode=mode, dtype="float32")
    assert same_bits(table.bag(ids, [0], mode=mode), np.array(expected, "f4"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bounds", ["wrap", "clip", "zero"])
def test_positions_that_begin_before_the_table(dtype, bounds):
    rng = np.random.default_rng(0)
    wte, wpe, ids = floats(rng, (5, 3), dtype), floats(rng, (4, 3), dtype), rng.integers(0, 5, (2, 9))
    for start in (-11, -1, 3):
        expected = reference.gather_add(wte.tolist(), ids.tolist(), wpe.tolist(), start=start, bounds=bounds, dtype=dtype)
        assert same_bits(fe.gather_add(wte, ids, wpe, start=start, bounds=bounds), np.array(expected, dtype))


def test_short_calls_of_a_layer_that_are_out_of_range():
    """Few ids, which are looked up without the machinery of long calls."""
    layer = fe.TokenPositionEmbedding(5, 4, 3, rng=0)
    for call, name, bad in (
        (lambda: layer(np.array([1, 5])), "token", 5),
        (lambda: layer(np.array([-1, 2])), "token", -1),
        (lambda: layer(np.zeros(5, np.int64)), "position", 4),
        (lambda: layer(4, 4), "position", 4),
        (lambda: layer(4, -1), "position", -1),
        (lambda: layer(5, 0), "token", 5),
    ):
        with pytest.raises(IndexError, match=rf"{name} id {bad} at position"):
            call()
    assert fe.TokenPositionEmbedding(5, 4, 0)(np.array([1, 4])).shape == (2, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_items_without_a_row_take_no_step(dtype):
    kernels = backend.kernels
    steps = np.zeros((1, kernels.N_SCALARS))
    table, grads = np.zeros((3, 2), dtype), np.ones((4, 2), dtype)
    lazy = kernels.LazyTable("row_wise_adagrad", table, (np.zeros((3, 1), dtype),), np.zeros(3, np.int32), None, steps)
    for rows in ([-1, -1, 0, 2], [-1, -1, -1, -1]):
        commit = kernels.Commit()
        commit.add_step(lazy, np.ones(kernels.N_SCALARS), False, np.array(rows), None, None, False, grads)
        commit.run()
        moved = table.any(axis=1).tolist()
    assert moved == [True, False, True]


def test_tables_of_a_subclass_of_arrays():
    class Labelled(np.ndarray):
        pass

    rng = np.random.default_rng(0)
    wte, wpe, ids = rng.standard_normal((5, 3)), rng.standard_normal((4, 3)), np.array([4, 0, 2])
    for tables in ((wte.view(Labelled), wpe), (wte, wpe.view(Labelled))):
        result = fe.gather_add(tables[0], ids, tables[1])
        assert type(result) is np.ndarray
        assert same_bits(result, wte[ids] + wpe[:3])


@pytest.mark.untraced
def test_a_long_call_of_a_layer_ends_at_a_signal():
    """The handler runs during the call or, on a fast machine, right after it."""
    script = """
import signal, numpy as np, fastembed as fe
signal.signal(signal.SIGALRM, signal.default_int_handler)
layer = fe.Embedding.from_pretrained(np.ones((1000, 4), "f4"))
ids = np.broadcast_to(np.arange(1000), (10_000, 1000))
signal.setitimer(signal.ITIMER_REAL, 0.02)
try:
    layer(ids)
    layer(0)
except KeyboardInterrupt:
    print("interrupted", layer(ids[:2]).sum())
"""
    assert output_of(script) == "interrupted 8000.0\n"
