"""Row-quantised tables: FBGEMM's bytes, look-ups and bags to the bit, the error, refusals."""

import copy
import itertools
import pickle
import struct

import ml_dtypes
import numpy as np
import pytest
from common import BOUNDS, ID_DTYPES, ISAS, assert_same, examples, lists, needs_c, outcome, relaid, same_bits
from drawn_bags import MODES, draw_bags
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import checkpoint
from fastembed._kernels import backend
from fastembed._kernels.packing import Packing
from fastembed.reference import quantized as reference

pytestmark = pytest.mark.on_reference

ALL_BITS = (8, 4)

WIDTHS = (0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 129, 200)


def table_of(rng, n_rows, width, bits):
    """Rows of many sizes and offsets, constant ones and zeros of both signs among them."""
    rows = rng.standard_normal((n_rows, width)) * 10.0 ** rng.integers(-9, 3 if bits == 4 else 30, (n_rows, 1))
    rows[::5] += 10.0 ** rng.integers(-6, 4, rows[::5].shape[:1])[:, None]
    rows[1::7] = rows[1::7, :1]
    rows[3::11] = np.where(rng.random(rows[3::11].shape) < 0.5, 0.0, -0.0)
    rows[4::13] = rng.integers(-8, 8, rows[4::13].shape) / 2
    return rows.astype(np.float32)


def packed_of(rng, n_rows, width, bits):
    """Any bytes as elements; scales and biases of many sizes, infinities and NaN among them."""
    dtype = np.float32 if bits == 8 else np.float16
    with np.errstate(over="ignore"):
        trailers = (rng.standard_normal((n_rows, 2)) * 10.0 ** rng.integers(-10, 8, (n_rows, 2))).astype(dtype)
    trailers[rng.random((n_rows, 2)) < 0.1] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan])
    elements = rng.integers(0, 256, (n_rows, (width * bits + 7) // 8), np.uint8)
    return np.concatenate([elements, trailers.view(np.uint8)], axis=1)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_packing_is_the_references(bits):
    rng = np.random.default_rng(0)
    for width in WIDTHS:
        table = table_of(rng, 30, width, bits)
        layer = fe.QuantizedEmbedding.from_float(table, bits=bits)
        packed = reference.quantize(table.tolist(), bits)
        assert layer.packed.tolist() == packed
        assert (layer.bits, layer.num_embeddings, layer.embedding_dim) == (bits, 30, width)
        assert layer.nbytes == layer.packed.nbytes == 30 * ((width * bits + 7) // 8 + bits)
        assert same_bits(layer.dequantize(), np.array(reference.dequantize(packed, width, bits), np.float32).reshape(30, width))
        assert layer.error_bound().tolist() == reference.error_bound(packed, width, bits)


def test_packing_is_what_the_formula_says():
    """Written out by hand: a row of each kind, its elements, scale and bias."""
    layer = fe.QuantizedEmbedding.from_float([[-1.0, 1.0, 0.0, 0.5]])
    assert layer.packed.tobytes() == bytes([0, 255, 128, 191]) + struct.pack("<2f", np.float32(2) / np.float32(255), -1.0)
    layer = fe.QuantizedEmbedding.from_float([[-1.0, 0.5, 0.26, 0.0, -0.44]], bits=4)
    assert layer.packed.tobytes() == bytes([15 << 4, 10 << 4 | 13, 6]) + struct.pack("<2e", 0.1, -1.0)
    assert fe.QuantizedEmbedding.from_float([[3.0, 3.0]]).packed.tobytes() == bytes(2) + struct.pack("<2f", 0.0, 3.0)
    assert fe.QuantizedEmbedding.from_float([[3.0, 3.0]], bits=4).packed.tobytes() == bytes(1) + struct.pack("<2e", 1.0, 3.0)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_fbgemm_packs_the_same_bytes(bits):
    torch = pytest.importorskip("torch")
    prepack = {8: "embedding_bag_byte_prepack", 4: "embedding_bag_4bit_prepack"}[bits]
    rng = np.random.default_rng(1)
    for width in WIDTHS[1:]:
        if bits == 4 and width % 2:
            continue  # refused there
        table = table_of(rng, 200, width, bits) + np.float32(0)
        packed = fe.QuantizedEmbedding.from_float(table, bits=bits).packed
        assert np.array_equal(packed, getattr(torch.ops.quantized, prepack)(torch.from_numpy(table)).numpy())


@pytest.mark.parametrize("bits", ALL_BITS)
def test_fbgemm_sums_the_same_bags(bits):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    table = rng.standard_normal((50, 64)).astype(np.float32)
    layer = fe.QuantizedEmbedding.from_float(table, bits=bits)
    name = {8: "embedding_bag_byte_rowwise_offsets", 4: "embedding_bag_4bit_rowwise_offsets"}[bits]
    ids, offsets = rng.integers(0, 50, 100), np.array([0, 10, 10, 60])
    expected = getattr(torch.ops.quantized, name)(
        torch.from_numpy(layer.packed), torch.from_numpy(ids), torch.from_numpy(offsets), False, 0, False, None, None, False
    )
    assert np.allclose(layer.bag(ids, offsets, mode="sum"), expected.numpy(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bits", ALL_BITS)
@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    bounds=st.sampled_from(BOUNDS),
    width=st.sampled_from(WIDTHS[1:]),
    layout=st.sampled_from(("plain", "misaligned", "rows-apart", "readonly")),
)
def test_look_ups_are_the_reference(bits, seed, bounds, width, layout):
    rng = np.random.default_rng(seed)
    packed = packed_of(rng, 9, width, bits)
    layer = fe.QuantizedEmbedding.from_packed(relaid(packed, layout), width, bits=bits)
    shape = [(), (5,), (2, 3), (0,), (1, 4)][rng.integers(5)]
    ids = rng.integers(0, 9, shape).astype(rng.choice(ID_DTYPES))
    if rng.random() < 0.3 and ids.size:
        ids.reshape(-1)[rng.integers(0, ids.size)] = 100
    of_rows = (packed.tolist(), width, bits)
    out_shape = (*shape, width)
    with np.errstate(all="ignore"):
        expected = outcome(reference.gather, *of_rows, ids.tolist(), bounds=bounds)
        assert_same(outcome(layer, ids, bounds=bounds), expected, np.float32, out_shape)
        out = np.full((*shape, width + 3), 7, np.float32)
        got = outcome(layer, ids, bounds=bounds, out=out[..., :width])
        assert_same(got, expected, np.float32, out_shape)
        assert (out[..., width:] == 7).all()
        wpe = rng.standard_normal((6, width)).astype(rng.choice(["f4", "f8", "f2"]))
        wpe[0] = -0.0
        positions = rng.integers(0, 6, shape) if rng.random() < 0.5 else None
        expected = outcome(
            reference.gather_add, *of_rows, ids.tolist(), wpe.astype("f4").tolist(), lists(positions)[0], bounds=bounds
        )
        assert_same(outcome(layer.gather_add, ids, wpe, positions, bounds=bounds), expected, np.float32, out_shape)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", ALL_BITS)
@examples(40)
@given(seed=st.integers(0, 2**32 - 1), bounds=st.sampled_from(BOUNDS), width=st.sampled_from(WIDTHS[1:]))
def test_bags_are_the_reference(bits, mode, seed, bounds, width):
    rng = np.random.default_rng(seed)
    packed = packed_of(rng, 9, width, bits)
    ids, offsets, include_last = draw_bags(rng)
    if rng.random() < 0.3 and ids.size:
        ids.reshape(-1)[rng.integers(0, ids.size)] = rng.choice([-1, 9])
    weights = None if mode == "max" or rng.random() < 0.5 else rng.standard_normal(ids.shape).astype("f4")
    options = {"mode": mode, "padding_idx": rng.choice([None, 2, -1]), "include_last_offset": include_last, "bounds": bounds}
    layer = fe.QuantizedEmbedding.from_packed(packed, width, bits=bits)
    with np.errstate(all="ignore"):
        expected = outcome(
            reference.embedding_bag, packed.tolist(), width, bits, *lists(ids, offsets), per_sample_weights=lists(weights)[0],
            **options,
        )  # fmt: skip
        got = outcome(layer.bag, ids, offsets, per_sample_weights=weights, **options)
    assert_same(got, expected, np.float32, (len(ids) if offsets is None else len(offsets) - include_last, width))


@needs_c
@pytest.mark.parametrize("bits", ALL_BITS)
def test_bits_do_not_depend_on_threads_or_instruction_set(select_isa, bits):
    """Long bags, over blocks of ids, and large results; the same as those of a table of floats."""
    rng = np.random.default_rng(3)
    for isa, width in itertools.product(ISAS, (5, 64, 100, 128, 300)):
        select_isa(isa)
        layer = fe.QuantizedEmbedding.from_float(rng.standard_normal((500, width)).astype("f4"), bits=bits)
        table = layer.dequantize()
        ids = rng.integers(0, 500, 9_000)
        offsets = np.sort(np.concatenate(([0, 0, 1024, 2048, 2049, 8_000], rng.integers(0, 9_000, 40))))
        weights, wpe = rng.random(9_000, np.float32), rng.standard_normal((1_000, width)).astype("f4")
        for n, mode in itertools.product((1, 2, 3, 8), MODES):
            with fe.threads(n):
                of_mode = {"mode": mode, "per_sample_weights": None if mode == "max" else weights}
                for options in ({"mode": mode}, of_mode, {"mode": mode, "padding_idx": 7}):
                    got, expected = layer.bag(ids, offsets, **options), fe.embedding_bag(table, ids, offsets, **options)
                    assert same_bits(got, expected), (isa, width, n, options)
                assert same_bits(layer(ids), table[ids])
                batch = ids.reshape(9, 1_000)
                assert same_bits(layer.gather_add(batch, wpe), fe.gather_add(table, batch, wpe))


@pytest.mark.parametrize("bits", ALL_BITS)
@examples(100)
@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from((1, 2, 5, 64)))
def test_the_error_is_within_its_bound(bits, seed, width):
    rng = np.random.default_rng(seed)
    table = table_of(rng, 60, width, bits)
    table[::3] *= np.float32(10.0) ** rng.integers(-42, 0, (20, 1)).astype("f4")
    layer = fe.QuantizedEmbedding.from_float(table, bits=bits)
    error = np.abs(layer.dequantize().astype("f8") - table)
    assert (error <= layer.error_bound()[:, None]).all()


def test_the_bound_of_the_error_is_half_a_step():
    table = np.random.default_rng(0).uniform(-1, 1, (1, 100_000)).astype("f4")
    for bits in ALL_BITS:
        layer = fe.QuantizedEmbedding.from_float(table, bits=bits)
        error, bound = np.abs(layer.dequantize() - table).max(), layer.error_bound()[0]
        assert 0.99 * bound < error <= bound < 1.001 / (2**bits - 1)


def test_tables_of_every_dtype_and_layer_are_rounded_to_float32():
    table = np.random.default_rng(0).standard_normal((20, 6))
    for dtype in (np.float64, np.float16, ml_dtypes.bfloat16, np.dtype(">f4")):
        given_table = table.astype(dtype)
        expected = fe.QuantizedEmbedding.from_float(given_table.astype("f4")).packed
        for made_of in (given_table, given_table.copy("F")):
            assert np.array_equal(fe.QuantizedEmbedding.from_float(made_of).packed, expected)
    for layer in (fe.Embedding.from_pretrained(table), fe.EmbeddingBag.from_pretrained(table)):
        assert np.array_equal(fe.QuantizedEmbedding.from_float(layer, bits=4).packed, reference.quantize(table.tolist(), 4))
    big = np.random.default_rng(0).standard_normal((70_000, 33)).astype("f4")  # more than one block
    rows = [0, 31_774, 31_775, 31_776, 69_999]
    assert fe.QuantizedEmbedding.from_float(big).packed[rows].tolist() == reference.quantize(big[rows].tolist(), 8)


def test_packed_rows_are_not_copied():
    packed = packed_of(np.random.default_rng(0), 9, 5, 8)
    for given_rows in (packed, packed[::2], packed[::-1], np.broadcast_to(packed[:1], packed.shape)):
        layer = fe.QuantizedEmbedding.from_packed(given_rows, 5)
        assert np.shares_memory(layer.packed, packed)
        assert same_bits(layer.dequantize(), fe.QuantizedEmbedding.from_packed(given_rows.copy(), 5).dequantize())


@pytest.mark.parametrize("bits", ALL_BITS)
def test_copies_pickles_and_files_hold_the_same_table(bits, tmp_path):
    layer = fe.QuantizedEmbedding.from_float(np.random.default_rng(0).standard_normal((9, 5)), bits=bits)
    path = tmp_path / "table.safetensors"
    layer.save(path)
    for other in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fe.QuantizedEmbedding.load(path)):
        assert np.array_equal(other.packed, layer.packed)
        assert repr(other) == repr(layer) == f"QuantizedEmbedding(9, 5, bits={bits})"
        assert same_bits(other([1, 2]), layer([1, 2]))


def test_files_that_hold_something_else_are_refused(tmp_path):
    path, packed = tmp_path / "other.safetensors", np.zeros((3, 13), np.uint8)
    good = {"kind": "QuantizedEmbedding", "embedding_dim": 5, "bits": 8}
    for tensors, description in (
        ({"packed": packed}, None),
        ({"packed": packed}, good | {"kind": "Embedding"}),
        ({"packed": packed}, good | {"bits": 4}),
        ({"packed": packed}, good | {"bits": "8"}),
        ({"packed": packed}, good | {"embedding_dim": 6}),
        ({"packed": packed}, {"kind": "QuantizedEmbedding"}),
        ({"packed": packed.astype(np.int8)}, good),
        ({"packed": packed[0]}, good),
        ({"packed": packed, "more": packed}, good),
    ):
        checkpoint.save(path, tensors, description)
        with pytest.raises(checkpoint.CheckpointError, match=r"other.safetensors does not hold a QuantizedEmbedding"):
            fe.QuantizedEmbedding.load(path)
    with open(path, "rb") as file:
        with pytest.raises(TypeError, match="path must be a str"):
            fe.QuantizedEmbedding.load(file.fileno())
        assert file.read()  # a number is no descriptor, which would have been closed


@pytest.mark.parametrize(
    ("rows", "bits", "text"),
    [
        ([[1.0, 2.0], [3.0, np.nan]], 8, "row 1 of the table has nan at column 1"),
        ([[1.0, -np.inf], [3.0, np.nan]], 4, "row 0 of the table has -inf at column 1"),
        ([[0.0, 1e39]], 8, "row 0 of the table has inf at column 1"),
        ([[0.0, 1.0], [-3e38, 3e38]], 8, "row 1 of the table goes from .* which is too far for 8 bits"),
        ([[-7e4, 1.0]], 4, "row 0 of the table goes from -70000.0 to 1.0, which is too far for 4 bits"),
        ([[0.0, 1e6]], 4, "row 0 of the table goes from 0.0 to 1000000.0, which is too far for 4 bits"),
        ([[-0.0, 1e6]], 4, "row 0 of the table goes from 0.0 to 1000000.0, which is too far for 4 bits"),
        ([[-1e6, -0.0]], 4, "row 0 of the table goes from -1000000.0 to 0.0, which is too far for 4 bits"),
    ],
)
def test_rows_that_cannot_be_quantized_are_named(rows, bits, text):
    with pytest.raises(ValueError, match=text):
        fe.QuantizedEmbedding.from_float(np.array(rows), bits=bits)
    with pytest.raises(ValueError, match=text):
        reference.quantize(rows, bits)


def test_what_is_refused():
    packed = np.zeros((3, 13), np.uint8)
    make = fe.QuantizedEmbedding.from_packed
    for arguments, options, error, text in (
        ((packed, 6), {}, ValueError, r"packed must have shape \(rows, 14\)"),
        ((packed, 5), {"bits": 4}, ValueError, r"packed must have shape \(rows, 7\)"),
        ((packed[0], 5), {}, ValueError, r"packed must have shape \(rows, 13\)"),
        ((packed.astype(int), 5), {}, TypeError, "packed must be uint8, got int64"),
        ((np.zeros((3, 26), np.uint8)[:, ::2], 5), {}, ValueError, "packed must have contiguous rows"),
        ((packed, 5), {"bits": 2}, ValueError, "bits must be 8 or 4, got 2"),
        ((packed, 5), {"bits": "8"}, TypeError, "bits must be an integer"),
        ((packed, -1), {}, ValueError, "embedding_dim must be from 0"),
        ((packed, 2**63 - 1), {}, ValueError, "packed must have shape"),
    ):
        with pytest.raises(error, match=text):
            make(*arguments, **options)
    layer, memory = make(packed, 5), np.zeros(100, np.float32)
    overlapping = make(memory.view(np.uint8)[:39].reshape(3, 13), 5)
    for call, error, text in (
        (lambda: layer([0, 3]), IndexError, r"id 3 at position \(1,\) is out of range for a table of 3 rows"),
        (lambda: layer([0.5]), TypeError, "ids must be integers"),
        (lambda: layer([0], bounds="no"), ValueError, "bounds must be one of"),
        (lambda: layer([0], out=np.empty((1, 5))), TypeError, "out must be float32"),
        (lambda: layer([0], out=np.empty((1, 4), "f4")), ValueError, r"out must have shape \(1, 5\)"),
        (lambda: overlapping([0], out=memory[:5].reshape(1, 5)), ValueError, "out must not overlap packed"),
        (lambda: overlapping.bag([[0]], out=memory[:5].reshape(1, 5)), ValueError, "out must not overlap packed"),
        (lambda: layer.bag([0, 3], [0]), IndexError, r"id 3 at position \(1,\)"),
        (lambda: layer.bag([0, 1], [1]), ValueError, "offsets must start at 0"),
        (lambda: layer.bag([0, 1], [0], mode="avg"), ValueError, "mode must be one of"),
        (lambda: layer.bag([0, 1], [0], padding_idx=3), ValueError, "padding_idx must be from -3 to 2"),
        (lambda: layer.gather_add([0], np.zeros((2, 4))), ValueError, r"wpe must have shape \(rows, 5\)"),
        (lambda: layer.gather_add([0, 1, 2], np.zeros((2, 5))), IndexError, r"position id 2 at position \(2,\)"),
        (lambda: layer.gather_add([0, 3], np.zeros((1, 5))), IndexError, r"token id 3 at position \(1,\)"),
        (lambda: fe.QuantizedEmbedding.from_float([[1, 2]]), TypeError, "table must be float32"),
        (lambda: fe.QuantizedEmbedding.from_float([1.0]), ValueError, "table must have 2 axes"),
    ):
        with pytest.raises(error, match=text):
            call()


def test_empty_tables_and_batches():
    for bits in ALL_BITS:
        layer = fe.QuantizedEmbedding.from_float(np.empty((0, 5), "f4"), bits=bits)
        assert layer(np.empty((2, 0), int)).shape == (2, 0, 5)
        assert layer.bag(np.empty((2, 0), int)).tolist() == [[0.0] * 5] * 2
        assert (layer.dequantize().shape, layer.error_bound().shape) == ((0, 5), (0,))
        with pytest.raises(IndexError, match="id 0"):
            layer([0])
        narrow = fe.QuantizedEmbedding.from_float(np.empty((3, 0), "f4"), bits=bits)
        assert narrow([0, 2]).shape == narrow.bag([0, 2], [0, 1]).shape == (2, 0)
        with pytest.raises(IndexError, match="id 3"):
            narrow([3])


@pytest.mark.skipif(backend.name != "c", reason="of the boundary to C")
def test_the_boundary_refuses_what_would_read_elsewhere():
    kernels, ids, out = backend.kernels, np.zeros(1, np.int64), np.empty((1, 5), np.float32)
    for packed in (
        np.zeros((3, 12), np.uint8),
        np.zeros((3, 13), np.int8),
        np.zeros((3, 26), np.uint8)[:, ::2],
        np.zeros(13, np.uint8),
    ):
        with pytest.raises(ValueError, match="shape or dtype of the packed table does not match the result"):
            kernels.gather(packed, ids, out, "raise", Packing("fbgemm8"))
    offsets, winners = np.array([0, 1]), np.empty((1, 5), np.int64)
    eight = Packing("fbgemm8")
    with pytest.raises(ValueError, match="winners"):
        kernels.embedding_bag(np.zeros((3, 13), np.uint8), ids, offsets, "max", None, -1, out, "raise", winners, eight)
    with pytest.raises(KeyError, match="fbgemm2"):
        kernels.gather(np.zeros((3, 13), np.uint8), ids, out, "raise", Packing("fbgemm2"))


@pytest.mark.parametrize("bits", [8, 4])
def test_nearest_of_packed_rows_is_that_of_their_floats(bits):
    """From the packed bytes, block by block: ids, scores and errors of the dequantised table."""
    table = np.random.default_rng(3).standard_normal((500, 7)).astype("f4")
    packed = fe.QuantizedEmbedding.from_float(table, bits=bits)
    floats = fe.Embedding.from_pretrained(packed.dequantize())
    for metric in ("cosine", "dot", "l2"):
        found, expected = packed.nearest(table[:20], 5, metric), floats.nearest(table[:20], 5, metric)
        assert same_bits(found.ids, expected.ids)
        assert same_bits(found.scores, expected.scores)
        assert same_bits(packed.nearest(3, 4, metric).ids, floats.nearest(3, 4, metric).ids)
    assert same_bits(packed.analogy(1, 2, 3).ids, floats.analogy(1, 2, 3).ids)
    assert outcome(packed.nearest, 500) == outcome(floats.nearest, 500)


@pytest.mark.parametrize("bits", [8, 4])
def test_rows_that_the_format_cannot_hold_are_clipped(bits):
    largest = np.float32(3.4028234663852886e38)
    odd = np.array(
        [
            [-largest, 0, largest], [largest] * 3,
            [-largest] * 3, [-largest, -largest / 2, 0], [-1e30, 5, 7], [1e6, 1e6 + 5, 1e6],
            [-1e6, 1e6, 0], [0, 65520 * 15, 1], [-65519, 0, 1], [-65520, 0, 1], [1, 2, 3], [0, -0.0, 0],
        ],
        np.float32,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    drawn = (rng.standard_normal((300, 3)) * 10.0 ** rng.integers(-3, 39, (300, 1))).clip(-largest, largest).astype(np.float32)
    for table in (odd, drawn):
        layer = fe.QuantizedEmbedding.from_float(table, bits=bits, errors="clip")
        assert layer.packed.tolist() == reference.quantize(table.tolist(), bits, "clip")
        assert np.isfinite(layer.dequantize()).all()
    layer = fe.QuantizedEmbedding.from_float(odd, bits=bits, errors="clip")
    held = [i for i, row in enumerate(odd) if outcome(fe.QuantizedEmbedding.from_float, row[None], bits=bits)[0] == "returned"]
    assert len(held) < len(odd)
    assert np.array_equal(layer.packed[held], fe.QuantizedEmbedding.from_float(odd[held], bits=bits).packed)
    if bits == 4:  # the ends of what is left are exact
        assert layer([6, 7]).tolist() == [[-65504.0, 14 * 65504.0, 0.0], [0.0, 15 * 65504.0, 0.0]]
    for value in (np.inf, np.nan):
        table = np.array([[1, 2], [3, value]], np.float32)
        got = outcome(fe.QuantizedEmbedding.from_float, table, bits=bits, errors="clip")
        assert got == outcome(reference.quantize, table.tolist(), bits, "clip")
        assert got[1:] == (ValueError, f"row 1 of the table has {value} at column 1, and only finite numbers can be quantized")
    with pytest.raises(ValueError, match="errors must be one of raise, clip; got 'ignore'"):
        fe.QuantizedEmbedding.from_float(odd, bits=bits, errors="ignore")


def test_bags_of_packed_rows_by_lengths():
    table = fe.QuantizedEmbedding.from_float(np.eye(4))
    assert table.bag([0, 1, 2], lengths=[2, 1]).tolist() == table.bag([[0, 1], [2]]).tolist()
    with pytest.raises(ValueError, match=r"^offsets must be given, or lengths, unless ids have 2 axes"):
        table.bag([0, 1])
