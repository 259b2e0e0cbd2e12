"""Calls that C answers at once give what calls through all checks give, errors included."""

import numpy as np
import pytest
from common import needs_c, same_bits
from plain_calls import BFLOAT16, FLOATS, HASH, N_TOKENS, D, V, W, check_both_ways, floats, fp8, ids_of, outs_for

import fastembed as fe

TABLES = {
    "scales in rows": lambda: fp8(False),
    "scales apart": lambda: fp8(True),
    "to bfloat16": lambda: fp8(True, "bfloat16"),
    "8 bits": lambda: fe.QuantizedEmbedding.from_float(floats("float32")),
    "rows apart": lambda: fe.PackedTable(np.zeros((2 * V, D + 1), np.uint8)[::2], D, format="float8_e4m3fn"),
}
LAYERS = {name: lambda make=make: fe.PackedNgramEmbedding(HASH, make()) for name, make in TABLES.items()} | {
    "float32": lambda: fe.NgramEmbedding(HASH, floats("float32")),
    "float64": lambda: fe.NgramEmbedding(HASH, floats("float64")),
    "bfloat16": lambda: fe.NgramEmbedding(HASH, floats(BFLOAT16)),
    "columns apart": lambda: fe.NgramEmbedding(HASH, np.repeat(floats("float32"), 2, axis=1)[:, ::2]),
}


@needs_c
@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_packed_rows(make, monkeypatch):
    table, n_at_once = make(), 0
    for ids in ids_of(V):
        n_at_once += check_both_ways(monkeypatch, "fast_gather_packed", lambda ids=ids: table(ids), None)
    assert n_at_once >= 13
    ids, n_at_once = np.arange(6).reshape(2, 3), 0
    scales = table.scales if hasattr(table, "scales") else None
    for out in outs_for((2, 3, D), "float32", table.packed, *([] if scales is None else [scales])):
        n_at_once += check_both_ways(monkeypatch, "fast_gather_packed", lambda out=out: table(ids, out=out), out)
    assert n_at_once >= 4  # bfloat16 is known from the second call on
    same = np.zeros(2 * D, np.int64)
    shared = same[:2]
    assert not check_both_ways(
        monkeypatch, "fast_gather_packed", lambda: table(shared, out=same.view("f4")[: 2 * D].reshape(2, D)), same
    )


@needs_c
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_ngrams(make, monkeypatch):
    layer, n_at_once = make(), 0
    in_place = layer._table_in_place() is not None
    name = "fast_ngram_gather"
    for ids in ids_of(N_TOKENS):
        n_at_once += check_both_ways(monkeypatch, name, lambda ids=ids: layer(ids), None)
        if isinstance(ids, np.ndarray) and ids.ndim:
            history = np.zeros((*ids.shape[:-1], 2), int)
            check_both_ways(monkeypatch, name, lambda ids=ids, history=history: layer(ids, history), None)
    assert n_at_once >= 10 if in_place else n_at_once == 0
    ids = np.arange(6).reshape(2, 3)
    for out in outs_for((2, 3, W * D), "float32", *([layer.table.packed] if hasattr(layer, "table") else [layer.weight])):
        check_both_ways(monkeypatch, name, lambda out=out: layer(ids, out=out), out)
    for history in ([[1, 2], [3, 8]], [[1, 2]], [[1, 9], [0, 0]], [[1, -1], [0, 0]], [1, 2], "a"):
        for dtype in ("int64", "int32", "uint8", "float64"):
            given = history if isinstance(history, str) or np.min(history) < 0 else np.array(history).astype(dtype)
            check_both_ways(monkeypatch, name, lambda given=given: layer(ids, given), None)
    for sequences in ({"lengths": [4, 2]}, {"cu_seqlens": [0, 6]}, {"lengths": [1], "cu_seqlens": [0, 6]}):
        check_both_ways(monkeypatch, name, lambda sequences=sequences: layer(np.arange(6), **sequences), None)


@needs_c
def test_results_apart_from_all_that_is_read(monkeypatch):
    """Memory of ids, rows, scales and the history is written by no call."""
    memory = np.ones((V, 128), np.uint8)  # of which rows, scales and results are taken
    apart = np.ones((V, D), np.uint8)
    for packed, scales in ((memory[:, :D], np.ones((V, 1), np.uint8)), (apart, memory[:, :1]), (apart, memory[::-1, 5:6])):
        table = fe.PackedTable(packed, D, format="float8_e4m3fn", scales=scales)
        layer, out = fe.PackedNgramEmbedding(HASH, table), memory.reshape(-1).view("f4")
        for rows in (4, 12):
            with pytest.raises(ValueError, match="out must not overlap"):
                table(np.arange(rows), out=out[: rows * D].reshape(rows, D))
            with pytest.raises(ValueError, match="out must not overlap"):
                layer(np.arange(rows // 4), out=out[: rows * D].reshape(rows // 4, W * D))
            assert (memory == 1).all()
    tokens = np.ones(2 * D, np.int64)  # of one token, and of its history
    out = tokens.view("f4").reshape(1, W * D)
    layer = LAYERS["float32"]()
    for ids, history in ((tokens[:1], None), ([1], tokens[-2:]), (tokens[5:6], tokens[:2])):
        with pytest.raises(ValueError, match="out must not overlap"):
            layer(ids, history, out=out)
    assert (tokens == 1).all()
    with pytest.raises(ValueError, match="out must not overlap"):
        layer([1], out=layer.weight[:W].reshape(1, W * D))


OFFSETS = ([0], [0, 2], [0, 2, 2, 6], [0, 6], [0, 7], [1, 2], [0, 3, 2], [], [0, -1], [True], None, 3, [[0, 2]], "a", [0.5])


def bag_calls():
    """A call of bags in each way, by its table: the function, packed tables, a layer."""
    for name, dtype in FLOATS.items():
        table = floats(dtype)
        yield name, table, lambda *bags, table=table, **options: fe.embedding_bag(table, *bags, **options)
    for name in ("scales in rows", "scales apart", "to bfloat16", "8 bits", "rows apart"):
        table = TABLES[name]()
        yield name, table.packed, table.bag
    apart = np.repeat(floats("float32"), 2, axis=1)[:, ::2]
    yield "columns apart", apart, lambda *bags, **options: fe.embedding_bag(apart, *bags, **options)
    layer = fe.EmbeddingBag.from_pretrained(floats("float32"), mode="sum", padding_idx=3)
    options_of_layer = ("mode", "padding_idx", "include_last_offset")

    def call(ids, offsets=None, *, per_sample_weights=None, out=None, **options):
        return layer(ids, offsets, per_sample_weights, out=out, **{k: x for k, x in options.items() if k not in options_of_layer})

    yield "layer", layer.weight, call


BAG_CALLS = {name: (table, call) for name, table, call in bag_calls()}


@needs_c
@pytest.mark.parametrize("name", BAG_CALLS)
def test_bags(name, monkeypatch):
    table, call = BAG_CALLS[name]

    def check(*bags, **options):
        return check_both_ways(monkeypatch, "fast_bag", lambda: call(*bags, **options), options.get("out"))

    n_at_once = sum(check(ids) for ids in ids_of(V))
    one_axis, two_axes = np.arange(6), np.arange(6).reshape(2, 3)
    for mode in ("sum", "mean", "sqrtn", "max", "min", None, 3):
        n_at_once += check(two_axes, mode=mode)
    for padding in (None, 0, 2, -1, V - 1, V, -V, -V - 1, True, np.int64(2), 10**30, 1.0, "a"):
        n_at_once += check(two_axes, mode="mean", padding_idx=padding)
    for offsets in OFFSETS:
        for last in (False, True, 1, None):
            n_at_once += check(one_axis, offsets, mode="sum", include_last_offset=last)
    for dtype in ("int32", "uint8", ">i8", "float64"):
        n_at_once += check(one_axis, np.array([0, 3]).astype(dtype), mode="sum")
        n_at_once += check(one_axis[:0], np.array([0, 0]).astype(dtype), mode="sum")
    for to in ("float32", "float64", BFLOAT16, "int64", ">f4"):
        for shape in ((6,), (2, 3), (3, 2), (1,)):
            weights = (np.arange(np.prod(shape)) - 1.5).reshape(shape).astype(to)
            n_at_once += check(two_axes, per_sample_weights=weights, mode="sum")
            n_at_once += check(one_axis, [0, 1, 4], per_sample_weights=weights, mode="mean")
            check(two_axes, per_sample_weights=weights, mode="max")
    n_at_once += check(two_axes, per_sample_weights=np.ones((2, 6), "f4")[:, ::2], mode="sum")
    n_at_once += check(two_axes, per_sample_weights=[[1.0] * 3] * 2, mode="sum")
    check(two_axes, lengths=[2]), check(one_axis, lengths=[2, 4]), check([[1, 2], [3]]), check(two_axes, bounds="clip")
    for out in outs_for((2, D), table.dtype if table.dtype.kind != "u" else "float32", table):
        n_at_once += check(two_axes, mode="sum", out=out)
    assert n_at_once >= 30 if name not in ("swapped", "columns apart") else n_at_once == 0


@needs_c
def test_weights_of_bags_are_apart_from_the_result():
    table, memory, ids = floats("float32"), np.ones(4 * D, np.float32), np.ones((2, 3), int)
    for first, begin in ((0, 0), (2 * D - 1, 0), (1, 6)):
        weights, out = memory[first : first + 6], memory[begin : begin + 2 * D]
        with pytest.raises(ValueError, match="out must not overlap per_sample_weights"):
            fe.embedding_bag(table, ids, mode="sum", per_sample_weights=weights.reshape(2, 3), out=out.reshape(2, D))
    assert (memory == 1).all()


@needs_c
def test_a_plain_call_of_bags_is_remembered():
    layer, other = (fe.EmbeddingBag.from_pretrained(floats("float32"), mode="sum", freeze=False) for _ in range(2))
    layer(np.array([3, 4, 3]), np.array([0, 1]), np.array([1.0, 2.0, 3.0], np.float32))
    layer.backward(np.ones((2, D), np.float32))
    other.backward(np.ones((2, D), np.float32), [3, 4, 3], [0, 1], [1.0, 2.0, 3.0])
    got, expected = layer.grads()["weight"], other.grads()["weight"]
    assert got.ids.tolist() == expected.ids.tolist()
    assert same_bits(got.rows, expected.rows)
    assert same_bits(layer.per_sample_weights_grad, other.per_sample_weights_grad)


@needs_c
def test_a_plain_call_of_ngrams_is_remembered():
    layer = fe.NgramEmbedding(HASH, floats("float32"))
    ids, history = np.array([3, 4]), np.array([1, 2])
    layer(ids, history)
    layer.backward(np.ones((2, W * D), np.float32))
    other = fe.NgramEmbedding(HASH, floats("float32"))
    other.backward(np.ones((2, W * D), np.float32), [3, 4], [1, 2])
    assert layer.grads()["weight"].ids.tolist() == other.grads()["weight"].ids.tolist()


@needs_c
def test_layers_whose_calls_do_more_than_read_take_all_checks(tmp_path, monkeypatch):
    layer = fe.NgramEmbedding(HASH, floats("float32"))
    layer.save(tmp_path / "t.safetensors")
    with fe.NgramEmbedding.open(tmp_path / "t.safetensors", "r+", hash=HASH) as mapped:
        assert check_both_ways(monkeypatch, "fast_ngram_gather", lambda: mapped([1, 2]), None) == 0


def test_words_that_are_no_bounds_are_refused_as_such():
    table, packed = floats("float32"), fp8(False)
    for bounds in (np.array(["raise"]), np.array(["raise", "x"]), b"raise", 3, None, "Raise", ["raise"]):
        for call in (
            lambda bounds=bounds: fe.gather(table, [0], bounds=bounds),
            lambda bounds=bounds: fe.gather_add(table, [0], table, bounds=bounds),
            lambda bounds=bounds: fe.embedding_bag(table, [[0]], bounds=bounds),
            lambda bounds=bounds: packed([0], bounds=bounds),
            lambda bounds=bounds: packed.bag([[0]], bounds=bounds) if bounds is not None else fe.gather(table, [0], bounds=None),
        ):
            with pytest.raises(ValueError, match="bounds must be one of"):
                call()


def test_ids_beyond_64_bits_are_named_before_any_other_fault():
    wide, packed = np.empty((0, 2**60), "f4"), fe.QuantizedEmbedding(np.empty((0, 2**50 + 8), np.uint8), 2**50)
    for ids in (10**30, [10**30], [1, -(10**30)]):
        for call in (lambda ids=ids: fe.gather(wide, ids), lambda ids=ids: packed(ids)):
            with pytest.raises(IndexError, match="out of range for a table of 0 rows"):
                call()


@needs_c
@pytest.mark.parametrize("which", ["rows", "scales"])
def test_arrays_that_lost_an_axis_are_refused(which):
    """A table holds the arrays that it was given, whose shape their owner may set."""
    arrays = {"rows": np.full((1, 1), 0x38, np.uint8), "scales": np.full((1, 1), 127, np.uint8)}
    table = fe.PackedTable(arrays["rows"], 1, format="float8_e4m3fn", scales=arrays["scales"])
    hash = fe.NgramHash([3, 5], [[1]], vocab_size=10, fill=0)
    for shape in ((), (1,)):
        arrays[which].shape = shape
        for call in (table, fe.PackedNgramEmbedding(hash, table)) if table.packed.ndim else (table,):
            for out in (None, np.full((1, 1), 7, np.float32)):
                with pytest.raises((TypeError, ValueError, IndexError)):
                    call([0], out=out)
                assert out is None or out[0, 0] == 7


def test_the_dtype_of_a_table_of_a_subclass_is_that_of_its_rows():
    class Other(fe.QuantizedEmbedding):
        dtype = np.dtype("float16")

    layer = fe.PackedNgramEmbedding(HASH, Other.from_float(floats("float32")))
    assert layer([1]).dtype == layer([[1], [2]], [[1, 2], [3, 4]]).dtype == np.float32
