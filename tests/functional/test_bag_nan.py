"""NaN in bags of mode "max": it is the maximum, and the first one gets the gradient."""

import numpy as np
import pytest
from common import DTYPES, same_bits
from halves import DTYPE, HALVES

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

WIDTHS = (1, 3, 8, 33, 70)  # vectors and tiles, whole and not
BAGS = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 1, 3], [2, 2, 2, 2]]


def with_nan(width, dtype):
    """Rows of which the elements (0, d), d even, and (2, d), d divisible by 3, are NaN."""
    table = np.random.default_rng(0).standard_normal((4, width)).astype(dtype)
    table[0, ::2] = np.nan
    table[2, ::3] = np.nan
    return table


def expected_of(table):
    """Each bag's maximum, and the row that each maximum is from."""
    picked = np.asarray(table, np.float64)[np.array(BAGS)]
    largest = np.max(picked, axis=1)
    is_it = (picked == largest[:, None]) | (np.isnan(picked) & np.isnan(largest)[:, None])
    return largest, np.array(BAGS)[np.arange(len(BAGS))[:, None], np.argmax(is_it, axis=1)]


def gradient_of(rows, dout, n_rows):
    dense = np.zeros((n_rows, dout.shape[1]), dout.dtype)
    np.add.at(dense, (rows, np.arange(dout.shape[1])), dout)
    return dense


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
def test_nan_is_the_maximum_and_the_first_one_gets_the_gradient(isa, dtype, width):
    table = with_nan(width, DTYPE.get(dtype, dtype))
    largest, rows = expected_of(table)
    assert same_bits(fe.embedding_bag(table, BAGS, mode="max"), largest.astype(table.dtype))
    assert same_bits(
        np.array(reference.embedding_bag(table.astype("f8").tolist(), BAGS, mode="max", dtype=dtype)), largest.astype("f8")
    )
    dout = np.arange(1.0, 1 + len(BAGS) * width).reshape(len(BAGS), width).astype("f8" if dtype == "float64" else "f4")
    dtable = np.zeros(table.shape, dout.dtype)
    fe.embedding_bag_backward(dout, BAGS, dtable, mode="max", table=table.astype(dout.dtype))
    assert same_bits(dtable, gradient_of(rows, dout, 4))
    layer = fe.EmbeddingBag.from_pretrained(table, mode="max")
    assert same_bits(layer(BAGS), largest.astype(table.dtype))
    layer.backward(dout)
    assert same_bits(layer.dense_grads()["weight"], dtable)


def test_padding_and_ids_without_a_row_do_not_count(isa):
    table = with_nan(5, "f4")
    for bags, options in (([[0, 1, 3]], {"padding_idx": 0}), ([[-1, 1, 9, 3]], {"bounds": "zero"})):
        assert same_bits(fe.embedding_bag(table, bags, mode="max", **options), np.maximum(table[1], table[3])[None])
    assert not np.isnan(fe.embedding_bag(table, [[0, 0]], mode="max", padding_idx=0)).any()


@pytest.mark.parametrize("place", [0, 1, 1500, 2999])
def test_nan_anywhere_in_a_bag_of_several_blocks(isa, place):
    table = np.random.default_rng(1).standard_normal((3000, 9)).astype("f4")
    table[place] = np.nan
    dtable = np.zeros_like(table)
    ids = np.arange(3000)
    assert np.isnan(fe.embedding_bag(table, ids, [0], mode="max")).all()
    fe.embedding_bag_backward(np.ones((1, 9), "f4"), ids, dtable, [0], mode="max", table=table)
    assert (dtable[place] == 1).all()
    assert dtable.sum() == 9


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("width", WIDTHS)
def test_packed_rows_that_stand_for_nan(isa, bits, width):
    packed = fe.QuantizedEmbedding.from_float(np.random.default_rng(2).standard_normal((4, width)), bits=bits).packed.copy()
    trailer = np.dtype("f4" if bits == 8 else "f2")
    packed[::2, -2 * trailer.itemsize :] = np.array([np.nan, 0], trailer).view("u1")
    layer = fe.QuantizedEmbedding.from_packed(packed, width, bits=bits)
    table = layer.dequantize()
    assert np.isnan(table[::2]).all()
    expected = np.array([np.full(width, np.nan, "f4")] * 3 + [np.maximum(table[1], table[3])])
    bags = [[0, 1, 3], [1, 3, 2], [1, 0, 3], [3, 1, 3]]
    assert same_bits(layer.bag(bags, mode="max"), expected)
    of_reference = reference.quantized.embedding_bag(packed.tolist(), width, bits, bags, mode="max")
    assert same_bits(np.array(of_reference, "f4"), expected)
