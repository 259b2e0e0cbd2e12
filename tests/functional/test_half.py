"""Tables of half precision: the reference's bits, and one rounding of what is stored."""

import ml_dtypes
import numpy as np
import pytest
from common import ISAS, examples, filled_places, lists, needs_c, same_bits
from halves import DTYPE, HALVES, rounded, table_of
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import reference
from fastembed._kernels.backend import kernels

pytestmark = pytest.mark.on_reference


@pytest.mark.parametrize("half", HALVES)
@examples(40)
@given(seed=st.integers(0, 2**32 - 1), bounds=st.sampled_from(("raise", "wrap", "clip", "zero")))
def test_ops_are_the_reference(half, seed, bounds):
    rng = np.random.default_rng(seed)
    width = int(rng.integers(0, 40))
    wte, wpe = table_of(rng, (7, width), half), table_of(rng, (5, width), half)
    ids, positions = rng.integers(0, 7, (3, 4)), rng.integers(0, 5, (3, 4))
    if bounds != "raise":
        ids[0, 0], positions[1, 1] = -1, 77
    names = {"bounds": bounds, "dtype": half}
    shape = (3, 4, width)
    got = fe.gather(wte, ids, bounds=bounds)
    assert same_bits(got, rounded(reference.gather(*lists(wte, ids), **names), half).reshape(shape))
    got = fe.gather_add(wte, ids, wpe, positions, bounds=bounds)
    assert same_bits(got, rounded(reference.gather_add(*lists(wte, ids, wpe, positions), **names), half).reshape(shape))
    values = rng.standard_normal(shape).astype("f4")
    rows, position_rows = wte.astype("f8").tolist(), wpe.astype("f8").tolist()
    reference.scatter_add(rows, *lists(ids, values), **names)
    changed = wte.copy()
    fe.scatter_add(changed, ids, values, bounds=bounds)
    assert same_bits(changed, rounded(rows, half).reshape(7, width))
    rows = wte.astype("f8").tolist()
    reference.gather_add_backward(*lists(values, ids), rows, position_rows, positions.tolist(), **names)
    dwte, dwpe = wte.copy(), wpe.copy()
    fe.gather_add_backward(values, ids, dwte, dwpe, positions, bounds=bounds)
    assert same_bits(dwte, rounded(rows, half).reshape(7, width))
    assert same_bits(dwpe, rounded(position_rows, half).reshape(5, width))
    for mode in ("sum", "mean", "sqrtn", "max"):
        weights = None if mode == "max" else rng.standard_normal(ids.shape).astype("f4")
        got = fe.embedding_bag(wte, ids, mode=mode, per_sample_weights=weights, bounds=bounds)
        expected = reference.embedding_bag(*lists(wte, ids), mode=mode, per_sample_weights=lists(weights)[0], **names)
        assert same_bits(got, rounded(expected, half).reshape(3, width))


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("width", [2049, 4100])
def test_rows_wider_than_a_strip(isa, half, width):
    """Gradients are summed strip by strip; what lies around the table stays."""
    rng = np.random.default_rng(width)
    memory, ids, values = table_of(rng, (5, width), half), [2, 0, 2, 1], rng.standard_normal((4, width)).astype("f4")
    before, rows = memory.copy(), memory[1:4].astype("f8").tolist()
    reference.scatter_add(rows, ids, values.tolist(), dtype=half)
    fe.scatter_add(memory[1:4], ids, values)
    assert same_bits(memory[1:4], rounded(rows, half).reshape(3, width))
    assert same_bits(memory[[0, 4]], before[[0, 4]])


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("n_before", [0, 1])
def test_two_tables_are_sorted_before_one_is_written(monkeypatch, half, n_before):
    """No memory for the sorted rows of one of them: neither has changed."""
    rng = np.random.default_rng(2)
    dwte, dwpe = table_of(rng, (7, 3), half), table_of(rng, (5, 3), half)
    before = dwte.copy(), dwpe.copy()
    sort_rows, calls = kernels.sort_rows, []

    def sorted_or_not(rows, n_rows):
        calls.append(rows)
        if len(calls) > n_before:
            raise MemoryError
        return sort_rows(rows, n_rows)

    monkeypatch.setattr(kernels, "sort_rows", sorted_or_not)
    with pytest.raises(MemoryError):
        fe.gather_add_backward(np.ones((2, 3)), [1, 2], dwte, dwpe)
    assert same_bits(dwte, before[0])
    assert same_bits(dwpe, before[1])
    calls.clear()
    n_before += 1  # there is memory for one table
    fe.scatter_add(dwte, [1], np.ones((1, 3)))
    assert not same_bits(dwte, before[0])


@pytest.mark.parametrize("half", HALVES)
@examples(20)
@given(seed=st.integers(0, 2**32 - 1))
def test_gradients_of_the_tables_dtype_are_added_as_they_are(half, seed):
    """And so they are for steps: as the same numbers in float32."""
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 40))
    dout, ids = table_of(rng, (3, 4, width), half), rng.integers(0, 5, (3, 4))
    tables = [[table_of(np.random.default_rng(0), (n, width), half) for n in (5, 4)] for _ in range(2)]
    for (wte, wpe), gradients in zip(tables, (dout, dout.astype("f4")), strict=True):
        fe.scatter_add(wte, ids, gradients, bounds="wrap")
        fe.gather_add_backward(gradients, ids, wte, wpe)
        layer = fe.Embedding.from_pretrained(wte, freeze=False)
        for rule in (fe.optim.SGD, fe.optim.RowWiseAdagrad, fe.optim.AdamW):
            layer.backward(gradients, ids, optimizer=rule(layer, lr=0.1))
        layer.backward(gradients, ids)
    assert same_bits(tables[0][0], tables[1][0])
    assert same_bits(tables[0][1], tables[1][1])


@pytest.mark.parametrize("half", HALVES)
@examples(20)
@given(seed=st.integers(0, 2**32 - 1))
def test_results_in_float32_are_not_rounded(half, seed):
    rng = np.random.default_rng(seed)
    width = int(rng.integers(0, 40))
    wte, wpe = table_of(rng, (7, width), half), table_of(rng, (4, width), half)
    ids, options = rng.integers(-1, 7, (3, 4)), {"bounds": "zero", "out_dtype": "float32"}
    for table in (wte, np.repeat(wte, 2, axis=1)[:, ::2]):
        wide, wide_wpe = table.astype("f4"), wpe.astype("f4")
        assert same_bits(fe.gather(table, ids, **options), fe.gather(wide, ids, bounds="zero"))
        for positions in (wpe, wide_wpe):
            assert same_bits(fe.gather_add(table, ids, positions, **options), fe.gather_add(wide, ids, wide_wpe, bounds="zero"))
        for mode in ("sum", "mean", "max"):
            got, out = fe.embedding_bag(table, ids, mode=mode, **options), np.empty((3, width), "f4")
            fe.embedding_bag(table, ids, mode=mode, out=out, **options)
            assert same_bits(got, fe.embedding_bag(wide, ids, mode=mode, bounds="zero"))
            assert same_bits(got, out)


def test_results_have_the_dtype_of_the_table_or_of_its_arithmetic():
    half, single = np.zeros((3, 2), np.float16), np.zeros((3, 2), np.float32)
    for call in (
        lambda table, to: fe.gather(table, [1], out_dtype=to),
        lambda table, to: fe.embedding_bag(table, [[1]], out_dtype=to),
    ):
        assert call(half, "float16").dtype == np.float16
        with pytest.raises(TypeError, match="out_dtype must be float16 or float32, got float64"):
            call(half, "float64")
        with pytest.raises(TypeError, match="out_dtype must be float32, got float16"):
            call(single, "float16")


@pytest.mark.parametrize("half", HALVES)
def test_results_are_within_one_rounding_of_float64(half):
    rng = np.random.default_rng(1)
    wte, wpe = table_of(rng, (50, 64), half, 1), table_of(rng, (20, 64), half, 1)
    ids = rng.integers(0, 50, (4, 20))
    unit = float(ml_dtypes.finfo(DTYPE[half]).eps) / 2 * (1 + 1e-3)  # and the rounding of the float32 sum
    exact = wte.astype("f8")[ids] + wpe.astype("f8")
    assert np.all(np.abs(fe.gather_add(wte, ids, wpe).astype("f8") - exact) <= unit * np.abs(exact) + 1e-7)
    exact = wte.astype("f8")[ids].sum(1)
    largest = np.abs(wte.astype("f8")[ids]).sum(1)
    got = fe.embedding_bag(wte, ids, mode="sum").astype("f8")
    assert np.all(np.abs(got - exact) <= unit * np.abs(exact) + 20 * 2.0**-24 * largest + 1e-7)


@needs_c
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("half", "dtype"), [("float16", DTYPE["float16"]), ("bfloat16", DTYPE["bfloat16"]), ("bfloat16", "f4")])
def test_sums_too_large_for_the_cache_have_the_same_bits_at_every_place(isa, half, dtype):
    # from 8 MiB on results are collected in lines; a row is more than one tile of them
    rng, used, width = np.random.default_rng(4), kernels.build_info()["isa"], 523
    wte, wpe = table_of(rng, (50, width), half), table_of(rng, (30, width), half)
    ids, positions = rng.integers(-1, 50, (85, 100)), rng.integers(-1, 30, (85, 100))
    options = {"bounds": "zero", "out_dtype": dtype}
    expected = np.concatenate([fe.gather_add(wte, i, wpe, p, **options) for i, p in zip(ids, positions, strict=True)])
    kernels.select_isa(isa)
    try:
        for out, is_whole in filled_places(expected.shape, dtype):
            fe.gather_add(wte, ids.reshape(-1), wpe, positions.reshape(-1), out=out, **options)
            assert np.array_equal(out.view("u2"), expected.view("u2"))
            assert is_whole()
    finally:
        kernels.select_isa(used)
