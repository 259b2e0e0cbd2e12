"""Faults that kernels of this kind have had elsewhere, each with the rule here."""

import threading

import numpy as np
import pytest
from common import DTYPES, ID_DTYPES, outcome, same_bits

import fastembed as fe


def test_every_path_checks_every_id(tables):
    """No check on one option's path; none in a backward; off by one at the table's end."""
    wte, wpe = tables
    dout, dwte, dwpe = np.ones((2, 4)), np.zeros((10, 4)), np.zeros((6, 4))
    for id_dtype in ID_DTYPES:
        limits = np.iinfo(id_dtype)
        for bad in {10, limits.max, limits.min, -1} - {0}:
            if not limits.min <= bad <= limits.max:
                continue
            ids = np.array([3, bad], id_dtype)
            text = rf"id {bad} at position \(1,\) is out of range for a table of 10 rows"
            calls = (
                lambda i: fe.gather(wte, i),
                lambda i: fe.gather(wte, i, out=np.empty((2, 4))),
                lambda i: fe.gather_add(wte, i, wpe),
                lambda i: fe.gather_add(wte, i, wpe, [0, 1]),
                lambda i: fe.scatter_add(dwte, i, dout),
                lambda i: fe.gather_add_backward(dout, i, dwte, dwpe),
                lambda i: fe.Embedding.from_pretrained(wte)(i),
                lambda i: fe.Embedding.from_pretrained(wte).backward(dout, i),
                lambda i: fe.TokenPositionEmbedding.from_arrays(wte, wpe)(i),
                lambda i: fe.TokenPositionEmbedding.from_arrays(wte, wpe).backward(dout, i),
            )
            for call in calls:
                with pytest.raises(IndexError, match=text):
                    call(ids)
    assert not dwte.any()
    assert not dwpe.any()


def test_a_late_bad_id_leaves_everything_as_it_was(tables):
    """The bad id is the last of many blocks, in the tokens or in the positions."""
    wte, wpe = tables
    n = 5000
    for bad_token in (True, False):
        token_ids, position_ids = np.zeros(n, np.int64), np.zeros(n, np.int32)
        (token_ids if bad_token else position_ids)[-1] = 10
        out, dwte, dwpe = np.full((n, 4), 7.0), np.full((10, 4), 7.0), np.full((6, 4), 7.0)
        with pytest.raises(IndexError, match=r"at position \(4999,\)"):
            fe.gather_add(wte, token_ids, wpe, position_ids, out=out)
        with pytest.raises(IndexError, match=r"at position \(4999,\)"):
            fe.gather_add_backward(out, token_ids, dwte, dwpe, position_ids)
        if bad_token:
            with pytest.raises(IndexError, match=r"at position \(4999,\)"):
                fe.gather(wte, token_ids, out=out)
            with pytest.raises(IndexError, match=r"at position \(4999,\)"):
                fe.scatter_add(dwte, token_ids, out)
        for array in (out, dwte, dwpe):
            assert np.all(array == 7.0)


@pytest.mark.parametrize("shape", [(2, 2048, 4), (3, 1, 4)])
def test_an_output_of_several_runs_is_not_half_written(tables, shape):
    wte, _ = tables
    wide = np.full((shape[0], shape[1] + 1, 4), 7.0)
    ids = np.zeros(shape[:2], int)
    ids[-1, -1] = 10
    with pytest.raises(IndexError):
        fe.gather(wte, ids, out=wide[:, :-1])
    assert np.all(wide == 7.0)


def test_ids_that_change_during_a_call_never_reach_outside(tables):
    """Another thread writes wild ids meanwhile: an IndexError, or rows of ids that were there."""
    wte, wpe = tables
    ids = np.zeros(20_000, np.int64)
    stop = threading.Event()

    def disturb():
        rng = np.random.default_rng(0)
        while not stop.is_set():
            ids[rng.integers(0, len(ids), 50)] = rng.choice([0, 9, 2**62, -(2**62)], 50)
            ids[:] = 0

    thread = threading.Thread(target=disturb)
    thread.start()
    wrong = []
    try:
        dwte, dwpe, dout = np.zeros((10, 4)), np.zeros((6, 4)), np.ones((20_000, 4))
        for _ in range(100):
            for call, of in (
                (lambda: fe.gather(wte, ids), wte),
                (lambda: fe.gather_add(wte, ids, wpe, 0), wte + wpe[0]),
                (lambda: fe.scatter_add(dwte, ids, dout), None),
                (lambda: fe.gather_add_backward(dout, ids, dwte, dwpe, 0), None),
            ):
                kind, *rest = outcome(call)
                if kind == "raised":
                    wrong += [rest] * (rest[0] is not IndexError)
                elif of is not None and not ((rest[0] == of[0]) | (rest[0] == of[9])).all():
                    wrong.append(rest)
    finally:
        stop.set()
        thread.join()
    assert not wrong
    assert not dwte[1:9].any()
    assert not dwpe[1:].any()


def test_more_than_two_billion_elements(tmp_path):
    """Products of sizes beyond 32 bits; the file is sparse on the disk."""
    table = np.memmap(tmp_path / "table", np.float32, "w+", shape=(2**28, 9))
    last = 2**28 - 1
    table[last] = np.arange(9)
    assert same_bits(fe.gather(table, [last, 0]), np.array([np.arange(9), np.zeros(9)], "f4"))
    fe.scatter_add(table, np.array([last, 2**27], np.uint32), np.ones((2, 9), "f4"))
    assert same_bits(np.asarray(table[last]), np.arange(9, dtype="f4") + 1)
    assert same_bits(np.asarray(table[2**27]), np.ones(9, "f4"))
    with pytest.raises(IndexError, match=f"id {2**28} at position"):
        fe.gather(table, [2**28])
    del table


def test_one_call_means_one_thing_in_every_dtype():
    """Sums go on from what is there, in float32 as in float64, for duplicate ids and for one id."""
    for dtype in DTYPES:
        for ids in ([2], [2, 2, 2]):
            table = np.full((4, 3), 0.5, dtype)
            fe.scatter_add(table, ids, np.full((len(ids), 3), 0.25, dtype))
            assert table[2].tolist() == [0.5 + 0.25 * len(ids)] * 3


def test_many_python_threads_at_once(tables):
    wte, wpe = tables
    ids = np.random.default_rng(1).integers(0, 10, (300, 6))
    expected, wrong = wte[ids] + wpe, []

    def work():
        for _ in range(50):
            if not same_bits(fe.gather_add(wte, ids, wpe), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_empty_arrays_with_wild_strides(tables):
    wte, _ = tables
    strides = np.lib.stride_tricks.as_strided
    no_ids = strides(np.zeros(1, int), (0, 3), (8, 2**62))
    assert fe.gather(wte, no_ids).shape == (0, 3, 4)
    no_columns = strides(np.zeros(3), (4, 0), (-(2**62), 2**60))
    assert fe.gather(no_columns, [3]).shape == (1, 0)
    with pytest.raises(IndexError):
        fe.gather(no_columns, [4])
    fe.scatter_add(wte, no_ids, strides(np.zeros(1), (0, 3, 4), (8, 2**62, 8)))


class Changing:
    """Ids that are others whenever they are asked for."""

    def __init__(self):
        self.n_asked = 0

    def __array__(self, dtype=None, copy=None):
        self.n_asked += 1
        return np.array([self.n_asked])


def test_ids_are_read_once():
    """Rows looked up, updated, shortened and counted are the same, though ids change meanwhile."""
    for options in ({}, {"max_norm": 0.1, "max_norm_in_place": False}):
        layer = fe.Embedding(9, 3, rng=0, **options)
        opt = fe.optim.Adam(layer, lr=0.1)
        layer.backward(np.ones((9, 3), "f4"), np.arange(9), optimizer=opt)
        layer.backward(np.ones((1, 3), "f4"), [0], optimizer=opt)  # the others have a pending update
        layer.count_lookups()
        assert same_bits(layer(Changing(), out=np.empty((1, 3), "f4")), layer([1]))
        assert layer.lookup_counts()["weight"].tolist() == [0, 2, *[0] * 7]
    pair = fe.TokenPositionEmbedding(9, 9, 3, rng=0)
    opt = fe.optim.Adam(pair, lr=0.1)
    pair.backward(np.ones((9, 3), "f4"), np.arange(9), optimizer=opt)
    pair.backward(np.ones((1, 3), "f4"), [0], optimizer=opt)
    pair.count_lookups()
    assert same_bits(pair(Changing(), Changing()), pair([1], [1]))
    assert all(counts.tolist() == [0, 2, *[0] * 7] for counts in pair.lookup_counts().values())
