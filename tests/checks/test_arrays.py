"""Arrays that are refused: unrelated shapes, overlap, misaligned outputs, subclasses that lie."""

import re

import numpy as np
import pytest
from common import DTYPES, same_bits

import fastembed as fe


def test_shapes_that_do_not_relate(tables):
    wte, wpe = tables
    with pytest.raises(ValueError, match=r"wpe must have shape \(rows, 4\), got \(6, 3\)"):
        fe.gather_add(wte, [0], wpe[:, :3])
    with pytest.raises(ValueError, match=r"dout must have shape \(2, 4\), got \(3, 4\)"):
        fe.gather_add_backward(np.ones((3, 4)), [0, 1], wte.copy(), wpe.copy())
    with pytest.raises(ValueError, match=r"dwpe must have 4 columns"):
        fe.gather_add_backward(np.ones((2, 4)), [0, 1], wte.copy(), np.zeros((6, 3)))
    with pytest.raises(TypeError, match="dwpe must be float64"):
        fe.gather_add_backward(np.ones((2, 4)), [0, 1], wte.copy(), np.zeros((6, 4), "f4"))
    with pytest.raises(ValueError, match=r"values of shape \(3, 4\) cannot be broadcast to shape \(2, 4\)"):
        fe.scatter_add(wte.copy(), [0, 1], np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"out must have shape \(2, 4\), got \(2, 5\)"):
        fe.gather(wte, [0, 1], out=np.empty((2, 5)))
    with pytest.raises(ValueError, match="table must have 2 axes"):
        fe.gather(wte[0], [0])
    for bad in (np.zeros((3, 2), int), np.zeros((3, 2), "u2"), np.zeros((3, 2), complex), np.zeros((3, 2), object), "x", None):
        with pytest.raises(TypeError, match="table must be float32, float64"):
            fe.gather(bad, [0])
    with pytest.raises(TypeError, match="values must be numbers that convert to float64, got complex128"):
        fe.scatter_add(wte.copy(), [0], 1j)
    with pytest.raises(ValueError, match="bounds must be one of raise, wrap, clip, zero; got 'strict'"):
        fe.gather(wte, [0], bounds="strict")


def test_what_is_written_must_not_overlap_what_is_read(tables):
    wte, _ = tables
    memory = np.zeros(200)
    table = memory[:40].reshape(10, 4)
    for call in (
        lambda: fe.gather(table, [0, 1], out=memory[32:40].reshape(2, 4)),
        lambda: fe.gather_add(wte, [0, 1], table, out=memory[4:12].reshape(2, 4)),
        lambda: fe.scatter_add(table, [0, 1], memory[:8].reshape(2, 4)),
        lambda: fe.scatter_add(table, memory[:2].view(np.int64), np.ones((2, 4))),
        lambda: fe.gather_add_backward(np.ones((2, 4)), [0, 1], table, memory[36:44].reshape(2, 4)),
        lambda: fe.gather_add_backward(memory[:8].reshape(2, 4), [0, 1], np.zeros((10, 4)), table),
    ):
        with pytest.raises(ValueError, match="must not overlap"):
            call()
    assert not memory.any()
    halves = np.zeros((10, 8))  # interleaved, yet apart
    halves[:, :4] = wte
    out = halves[:2, 4:]
    assert same_bits(fe.gather(halves[:, :4], [9, 3], out=out), wte[[9, 3]])


def test_an_output_that_overlaps_itself_is_refused(tables):
    wte, _ = tables
    strides = np.lib.stride_tricks.as_strided
    for bad in (strides(np.zeros(99), (3, 4), (0, 8)), strides(np.zeros(99), (3, 4), (16, 8))):
        with pytest.raises(ValueError, match="must not overlap itself"):
            fe.gather(wte, [0, 1, 2], out=bad)
        with pytest.raises(ValueError, match="must not overlap itself"):
            fe.scatter_add(bad, [0], np.ones((1, 4)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_misaligned_tables_are_read_and_not_written(dtype):
    raw = np.zeros(10 * 4 * 8 + 1, np.uint8)
    table = raw[1 : 1 + 40 * np.dtype(dtype).itemsize].view(dtype).reshape(10, 4)
    table[...] = np.arange(40).reshape(10, 4)
    assert not table.flags.aligned
    assert same_bits(fe.gather(table, [9, 0]), table[[9, 0]])
    assert same_bits(fe.gather_add(table, [9, 0], table), table[[9, 0]] + table[[0, 1]])
    with pytest.raises(ValueError, match="table is not aligned"):
        fe.scatter_add(table, [0], np.ones((1, 4), dtype))
    with pytest.raises(ValueError, match="out is not aligned"):
        fe.gather(table.copy(), [0], out=table[:1])


class Liar(np.ndarray):
    """An array that says what is not so."""

    dtype = property(lambda self: np.dtype("f8"))
    shape = property(lambda self: (2**40,))
    strides = property(lambda self: (2**40,))

    def __array_function__(self, func, types, args, kwargs):
        return NotImplemented


def test_what_a_subclass_says_is_not_believed(tables):
    wte, wpe = tables
    ids, out = np.array([3, 9], np.int8), np.zeros((2, 4))
    expected = wte[[3, 9]]
    assert same_bits(fe.gather(wte, ids.view(Liar)), expected)
    assert same_bits(fe.gather(wte.view(Liar), ids), expected)
    fe.gather(wte, ids, out=out.view(Liar))
    assert same_bits(out, expected)
    assert same_bits(fe.gather_add(wte, ids.view(Liar), wpe.view(Liar), ids.view(Liar) * 0), expected + wpe[0])
    assert fe.gather(wte.view(np.matrix), ids).shape == (2, 4)
    with pytest.raises(TypeError, match="ids must not be a masked array"):
        fe.gather(wte, np.ma.array([0, 1], mask=[0, 1]))
    with pytest.raises(TypeError, match="table must not be a masked array"):
        fe.scatter_add(np.ma.array(wte), [0], out[:1])


@pytest.mark.on_reference
def test_an_invalid_table_is_not_written():
    flat = np.zeros(4)
    with pytest.raises(ValueError, match=r"table must have 2 axes \(rows, columns\), got shape \(4,\)"):
        fe.scatter_add(flat, [0], 1.0)
    assert not flat.any()


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([[1, 2], [3]], "got 2 elements at position (0,) and 1 element at position (1,)"),
        ([1, [2, 3]], "got no list at position (0,) and 2 elements at position (1,)"),
        ([[[1], [2]], ([3], [4, 5, 6])], "got 1 element at position (0, 0) and 3 elements at position (1, 1)"),
        ([np.arange(3), [0, 1]], "got 3 elements at position (0,) and 2 elements at position (1,)"),
    ],
)
def test_lists_of_several_lengths_are_named_by_their_places(ids, text):
    with pytest.raises(ValueError, match=rf"^ids must have one shape, {re.escape(text)}$"):
        fe.Embedding(9, 2)(ids)
