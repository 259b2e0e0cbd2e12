"""gather, gather_add, scatter_add, gather_add_backward against the reference and NumPy."""

import itertools
import zlib

import numpy as np
import pytest
from common import BOUNDS, DTYPES, ID_DTYPES, assert_same, floats, lists, outcome, reference_scatter_add, same_bits

import fastembed as fe
from fastembed import reference
from fastembed._kernels import backend

pytestmark = pytest.mark.on_reference

SHAPES = ((), (1,), (7,), (2, 3), (3, 1, 2), (0,), (2, 0), (0, 3))

LARGE = ((1100,), (35, 30))  # more than the block of ids that C reads at once


def draw_ids(rng, shape, id_dtype, n_rows, *, bad):
    """Ids in range, or (bad) some far outside on both sides, and the ends of the dtype."""
    limits = np.iinfo(id_dtype)
    ids = rng.integers(0, min(max(n_rows, 1), limits.max + 1), shape).astype(id_dtype)
    if not bad:
        return ids
    odd = np.array([limits.min, limits.max, max(limits.min, -1), min(limits.max, n_rows), min(limits.max, n_rows + 1)], id_dtype)
    return np.where(rng.random(shape) < 0.3, rng.choice(odd, shape), ids).astype(id_dtype)


CASES = list(itertools.product(ID_DTYPES, DTYPES, BOUNDS))


@pytest.mark.parametrize(("id_dtype", "dtype", "bounds"), CASES)
@pytest.mark.parametrize("bad", [False, True])
def test_all_ops_do_what_the_reference_does(id_dtype, dtype, bounds, bad):
    rng = np.random.default_rng(zlib.crc32(f"{id_dtype} {dtype} {bounds} {bad}".encode()))
    large = [LARGE[bad]] if backend.name == "c" and dtype == "float32" else []
    for shape in (*SHAPES, *large):
        n_rows, n_positions, width = rng.integers(1, 20), rng.integers(1, 20), rng.choice([1, 2, 3, 16, 33])
        wte, wpe = floats(rng, (n_rows, width), dtype), floats(rng, (n_positions, width), dtype)
        ids, positions = draw_ids(rng, shape, id_dtype, n_rows, bad=bad), draw_ids(rng, shape, id_dtype, n_positions, bad=bad)
        start = int(rng.integers(0, n_positions))
        dout = floats(rng, (*shape, width), dtype)
        options = {"bounds": bounds}
        assert_same(
            outcome(fe.gather, wte, ids, **options),
            outcome(reference.gather, *lists(wte, ids), dtype=dtype, **options),
            dtype,
            (*shape, width),
        )
        for position_ids, first in ((positions, 0), (None, start), (None, 0)):
            where = {"start": first, **options}
            assert_same(
                outcome(fe.gather_add, wte, ids, wpe, position_ids, **where),
                outcome(reference.gather_add, *lists(wte, ids, wpe, position_ids), dtype=dtype, **where),
                dtype,
                (*shape, width),
            )
            dwte, dwpe = wte.copy(), wpe.copy()
            expected_wte, expected_wpe = lists(wte, wpe)
            expected = outcome(
                reference.gather_add_backward,
                *lists(dout, ids),
                expected_wte,
                expected_wpe,
                *lists(position_ids),
                dtype=dtype,
                **where,
            )
            assert outcome(fe.gather_add_backward, dout, ids, dwte, dwpe, position_ids, **where) == expected
            assert same_bits(dwte, np.array(expected_wte, dtype))
            assert same_bits(dwpe, np.array(expected_wpe, dtype))
        table = wte.copy()
        expected = outcome(reference_scatter_add, wte, ids, dout, bounds)
        got = outcome(fe.scatter_add, table, ids, dout, **options)
        assert got[0] == expected[0]
        assert got[1:] == expected[1:] or got == ("returned", None)
        assert same_bits(table, np.array(expected[1], dtype) if got[0] == "returned" else wte)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_agrees(dtype):
    rng = np.random.default_rng(1)
    wte, wpe = rng.standard_normal((50, 24)).astype(dtype), rng.standard_normal((9, 24)).astype(dtype)
    ids = rng.integers(0, 50, (6, 9))
    assert same_bits(fe.gather(wte, ids), np.take(wte, ids, axis=0))
    assert same_bits(fe.gather_add(wte, ids, wpe), wte[ids] + wpe)
    assert same_bits(fe.gather_add(wte, ids, wpe, start=0), wte[ids] + wpe[np.arange(9)])
    wild = rng.integers(-200, 200, (6, 9))
    for mode in ("wrap", "clip"):
        assert same_bits(fe.gather(wte, wild, bounds=mode), np.take(wte, wild, axis=0, mode=mode))
    dout = rng.standard_normal((6, 9, 24)).astype(dtype)
    mine, theirs = wte.copy(), wte.copy()
    fe.scatter_add(mine, ids, dout)
    np.add.at(theirs, ids, dout)
    assert same_bits(mine, theirs)
    dwte, dwpe, expected_wpe = np.zeros_like(wte), np.zeros_like(wpe), np.zeros_like(wpe)
    fe.gather_add_backward(dout, ids, dwte, dwpe)
    np.add.at(expected_wpe, np.broadcast_to(np.arange(9), ids.shape), dout)
    assert same_bits(dwpe, expected_wpe)


def test_positions_broadcast_and_start():
    rng = np.random.default_rng(2)
    wte, wpe = rng.standard_normal((5, 3)), rng.standard_normal((10, 3))
    ids = rng.integers(0, 5, (4, 6))
    column = np.array([[9], [0], [3], [3]])
    assert same_bits(fe.gather_add(wte, ids, wpe, column), wte[ids] + wpe[column])
    assert same_bits(fe.gather_add(wte, ids, wpe, 7), wte[ids] + wpe[7])
    assert same_bits(fe.gather_add(wte, ids, wpe, start=4), wte[ids] + wpe[4:])
    assert same_bits(fe.gather_add(wte, 2, wpe, start=9), wte[2] + wpe[9])
    with pytest.raises(ValueError, match=r"position_ids of shape \(5,\) do not broadcast to token_ids of shape \(4, 6\)"):
        fe.gather_add(wte, ids, wpe, np.arange(5))
    with pytest.raises(ValueError, match="start and position_ids exclude each other"):
        fe.gather_add(wte, ids, wpe, 1, start=2)
    with pytest.raises(IndexError, match=r"position id 10 at position \(0, 5\) is out of range for a table of 10 rows"):
        fe.gather_add(wte, ids, wpe, start=5)
    for wild in (2**63, -(2**63), 2**63 - 3):
        with pytest.raises(ValueError, match="start must be within 64 bits"):
            fe.gather_add(wte, ids, wpe, start=wild, bounds="wrap")


def test_values_broadcast_as_in_numpy():
    for values in (1.5, [1.0, 2.0], [[1.0], [2.0], [3.0]], np.float32(2), 3, np.ones((3, 1))):
        mine, theirs = np.zeros((4, 2)), np.zeros((4, 2))
        fe.scatter_add(mine, [3, 0, 3], values)
        np.add.at(theirs, [3, 0, 3], values)
        assert same_bits(mine, theirs)


def test_out_is_used_and_returned():
    rng = np.random.default_rng(3)
    wte, wpe, ids = rng.standard_normal((5, 4)), rng.standard_normal((3, 4)), np.array([[0, 4, 2], [1, 1, 1]])
    wide = np.full((2, 2, 3, 9), -1.0)
    for out in (np.empty((2, 3, 4)), wide[0, :, :, :4], np.empty((3, 2, 4)).swapaxes(0, 1), wide[1, ::-1, ::-1, 3:7]):
        assert fe.gather_add(wte, ids, wpe, out=out) is out
        assert same_bits(out, wte[ids] + wpe)
        assert fe.gather(wte, ids, out=out) is out
        assert same_bits(out, wte[ids])
    assert np.all(wide[0, :, :, 4:] == -1)


def test_a_table_without_rows_or_columns():
    empty, flat = np.zeros((0, 4)), np.zeros((3, 0))
    assert same_bits(fe.gather(empty, [1, -1], bounds="zero"), np.zeros((2, 4)))
    assert fe.gather(empty, np.zeros((2, 0), int)).shape == (2, 0, 4)
    assert fe.gather(flat, [[0, 2]]).shape == (1, 2, 0)
    for bounds in ("raise", "wrap", "clip"):
        with pytest.raises(IndexError, match=r"id 1 at position \(0,\) is out of range for a table of 0 rows"):
            fe.gather(empty, [1], bounds=bounds)
        with pytest.raises(IndexError, match=r"id 1 at position \(0,\) is out of range for a table of 0 rows"):
            fe.scatter_add(empty, [1], np.zeros((1, 4)), bounds=bounds)
    with pytest.raises(IndexError, match=r"id 3 at position \(1,\) is out of range for a table of 3 rows"):
        fe.gather(flat, [0, 3])
    with pytest.raises(IndexError, match=r"token id 3 at position \(1,\)"):
        fe.gather_add_backward(np.zeros((2, 0)), [0, 3], flat, flat.copy())


def test_mixed_float_dtypes_convert_to_the_first_table():
    rng = np.random.default_rng(4)
    wte, wpe, ids = rng.standard_normal((5, 4)).astype("f4"), rng.standard_normal((3, 4)), np.array([4, 0, 4])
    assert same_bits(fe.gather_add(wte, ids, wpe), wte[ids] + wpe.astype("f4"))
    assert same_bits(fe.gather_add(wte, ids, wpe.astype("f2")), wte[ids] + wpe.astype("f2").astype("f4"))
    table, values = wte.copy(), rng.standard_normal((3, 4))
    fe.scatter_add(table, ids, values)
    expected = wte.copy()
    np.add.at(expected, ids, values.astype("f4"))
    assert same_bits(table, expected)
