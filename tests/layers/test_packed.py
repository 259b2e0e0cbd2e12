"""Packed tables: the bits of the reference, of ml_dtypes and of gguf; look-ups, bags, refusals."""

import pickle
import struct

import ml_dtypes
import numpy as np
import pytest
from common import BOUNDS, ISAS, assert_same, examples, filled_places, lists, needs_c, outcome, relaid, same_bits
from drawn_bags import MODES, draw_bags
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import checkpoint
from fastembed._kernels import backend
from fastembed.reference import formats as reference
from fastembed.tables.packed import FORMATS

pytestmark = pytest.mark.on_reference

FP8 = FORMATS[:2]
GGUF = FORMATS[4:]
WIDTHS = dict.fromkeys(FORMATS[:4], (0, 1, 5, 16, 31, 32, 33, 70, 256, 300))
WIDTHS |= {name: (0, 32, 96, 320) if name.endswith("_0") else (0, 256, 768) for name in GGUF}
BLOCK_SIZES = (1, 7, 16, 32, 48, 1000)


def table_of(rng, format, width, n_rows=9):
    """A table of any bytes, its options, and its rows by the reference."""
    options, scales = {"format": format}, None
    n_block, is_float = (int(rng.choice(BLOCK_SIZES)), bool(rng.random() < 0.5)) if format in FP8 else (0, False)
    of_elements, of_scales = reference.packed_size(format, n_block, is_float, width)
    rows = rng.integers(0, 256, (n_rows, of_elements + of_scales), np.uint8)
    if format in FP8:
        options |= {"block_size": n_block, "scale_format": "float32" if is_float else "ue8m0"}
        if is_float:
            with np.errstate(over="ignore"):
                sizes = 10.0 ** rng.integers(-44, 39, (n_rows, 1))
                numbers = (rng.standard_normal((n_rows, of_scales // 4)) * sizes).astype("f4")
            numbers[rng.random(numbers.shape) < 0.1] = rng.choice([0.0, -0.0, np.inf, np.nan, 3e38, 1e-45])
            rows[:, of_elements:] = numbers.view(np.uint8)
        elif of_scales:
            rows[::2, of_elements:] = rng.choice([0, 1, 127, 246, 247, 254, 255], rows[::2, of_elements:].shape)
        if rng.random() < 0.5:
            rows, scales = rows[:, :of_elements].copy(), rows[:, of_elements:].copy()
    lists = rows.tolist(), None if scales is None else scales.tolist()
    floats = reference.decode(*lists, format, n_block, is_float, width)
    return rows, options | ({} if scales is None else {"scales": scales}), floats


@pytest.mark.parametrize("format", FORMATS)
@examples(25)
@given(seed=st.integers(0, 2**32 - 1), layout=st.sampled_from(("plain", "misaligned", "rows-apart", "readonly")), data=st.data())
def test_look_ups_are_the_reference(format, seed, layout, data):
    rng = np.random.default_rng(seed)
    width, bounds = data.draw(st.sampled_from(WIDTHS[format])), data.draw(st.sampled_from(BOUNDS))
    rows, options, floats = table_of(rng, format, width)
    if "scales" in options:
        options["scales"] = relaid(options["scales"], layout)
    table = fe.PackedTable(relaid(rows, layout), width, **options)
    shape = [(), (5,), (2, 3), (0,), (40,)][rng.integers(5)]
    ids = rng.integers(0, 9 + (rng.random() < 0.2), shape)
    expected = outcome(fe.reference.gather, floats, ids.tolist(), dtype="float32", bounds=bounds)
    assert_same(outcome(table, ids, bounds=bounds), expected, np.float32, (*shape, width))
    out = np.full((*shape, width + 3), 7, np.float32)
    assert_same(outcome(table, ids, out=out[..., :width], bounds=bounds), expected, np.float32, (*shape, width))
    assert (out[..., width:] == 7).all()
    wpe = rng.standard_normal((50, width)).astype("f4")
    positions = rng.integers(0, 50, shape)
    arguments = floats, ids.tolist(), wpe.tolist(), positions.tolist()
    expected = outcome(fe.reference.gather_add, *arguments, dtype="float32", bounds=bounds)
    assert_same(outcome(table.gather_add, ids, wpe, positions, bounds=bounds), expected, np.float32, (*shape, width))


@pytest.mark.parametrize("format", FORMATS)
@examples(25)
@given(seed=st.integers(0, 2**32 - 1), bounds=st.sampled_from(BOUNDS), mode=st.sampled_from(MODES), data=st.data())
def test_bags_are_the_reference(format, seed, bounds, mode, data):
    rng = np.random.default_rng(seed)
    width = data.draw(st.sampled_from(WIDTHS[format][1:]))
    rows, options, floats = table_of(rng, format, width)
    ids, offsets, include_last = draw_bags(rng)
    weights = None if mode == "max" or rng.random() < 0.5 else rng.standard_normal(ids.shape).astype("f4")
    chosen = {"mode": mode, "include_last_offset": include_last, "bounds": bounds, "padding_idx": rng.choice([None, 2, -1])}
    arguments = floats, *lists(ids, offsets)
    expected = outcome(fe.reference.embedding_bag, *arguments, per_sample_weights=lists(weights)[0], dtype="float32", **chosen)
    got = outcome(fe.PackedTable(rows, width, **options).bag, ids, offsets, per_sample_weights=weights, **chosen)
    assert_same(got, expected, np.float32, (len(ids) if offsets is None else len(offsets) - include_last, width))


@needs_c
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("format", FORMATS)
def test_bags_of_several_blocks_of_ids(isa, format, mode):
    """Those of the decoded rows, to the bit; the second bag begins with a block of padding."""
    rng = np.random.default_rng(1)
    rows, options, _ = table_of(rng, format, WIDTHS[format][-1])
    table = fe.PackedTable(rows, WIDTHS[format][-1], **options)
    ids = np.concatenate([rng.integers(0, 9, 2500), np.full(1200, 3), rng.integers(0, 9, 1500)])
    how = {"mode": mode, "padding_idx": 3}
    assert same_bits(table.bag(ids, [0, 2500], **how), fe.embedding_bag(table.dequantize(), ids, [0, 2500], **how))


@pytest.mark.parametrize("format", FP8)
def test_fp8_is_that_of_ml_dtypes(format):
    """All 256 elements times all 256 scales, and float32 scales, each block's its own; arrays of
    ml_dtypes, in rows of two tiles, the second of which has no NaN."""
    rows = np.tile(np.arange(256, dtype=np.uint8).view(format), (256, 2))
    rows[:, 256:][np.isnan(rows[:, 256:].astype("f4"))] = 1
    powers = (np.arange(256)[:, None] + 16 * np.arange(16)).astype(np.uint8).view("float8_e8m0fnu")
    sizes = 10.0 ** np.arange(-40, 37, 77 / 4096).reshape(256, 16)
    floats = (np.random.default_rng(0).standard_normal((256, 16)) * sizes).astype("f4")
    for scales in (powers, floats):
        with np.errstate(all="ignore"):
            expected = rows.astype("f4") * np.repeat(scales.astype("f4"), 32, axis=1)
        assert same_bits(fe.PackedTable(rows, 512, format=format, scales=scales).dequantize(), expected)
        packed = np.concatenate([rows.view(np.uint8), scales.view(np.uint8)], axis=1)
        name = "ue8m0" if scales is powers else "float32"
        assert same_bits(fe.PackedTable(packed, 512, format=format, scale_format=name).dequantize(), expected)


@pytest.mark.parametrize("format", FORMATS[2:4])
def test_every_half_is_that_of_numpy(format):
    halves = np.arange(2**16, dtype=np.uint16).reshape(256, 256).view(format)
    assert same_bits(fe.PackedTable(halves, 256, format=format).dequantize(), halves.astype("f4"))


@pytest.mark.parametrize("format", GGUF)
def test_blocks_are_those_of_gguf(format):
    gguf = pytest.importorskip("gguf")
    rng, width = np.random.default_rng(0), WIDTHS[format][-1]
    size, _ = reference.packed_size(format, 0, False, width)
    rows = rng.integers(0, 256, (2000, size), np.uint8)
    rows[:4] = np.array([0, 255, 128, 127], np.uint8)[:, None]
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[format.upper()])
    assert same_bits(fe.PackedTable(rows, width, format=format).dequantize(), expected)


@needs_c
@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_gives_the_reference(isa):
    rng, used = np.random.default_rng(5), backend.kernels.build_info()["isa"]
    backend.kernels.select_isa(isa)
    try:
        for format in FORMATS:
            for width in WIDTHS[format]:
                rows, options, floats = table_of(rng, format, width)
                table = fe.PackedTable(rows, width, **options)
                assert same_bits(table.dequantize(), np.array(floats, "f4").reshape(9, width))
                sums = fe.embedding_bag(np.array(floats, "f4").reshape(9, width), [0, 3, 8, 3], [0, 3], mode="sum")
                assert same_bits(table.bag([0, 3, 8, 3], [0, 3], mode="sum"), sums)
    finally:
        backend.kernels.select_isa(used)


@needs_c
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("format", ["float8_e4m3fn", "float8_e5m2"])
def test_fp8_times_every_power_of_two_and_large_scales(isa, format):
    """Elements that are one product, or a bfloat16 number without rounding, and all others."""
    rng, used = np.random.default_rng(11), backend.kernels.build_info()["isa"]
    elements = rng.integers(0, 256, (2 * 256, 256), np.uint8)
    finite = np.isfinite(elements.view(format).astype("f4"))
    elements = np.where(finite, elements, 1)
    exponents = np.full((2 * 256, 8), 127, np.uint8)
    exponents[:256] = np.arange(256)[:, None]
    exponents[np.arange(256, 512), rng.integers(0, 8, 256)] = np.arange(256)
    powers = np.ldexp(1.0, exponents.astype(int) - 127)
    powers[exponents == 255] = np.nan
    floats = (2.0 ** rng.uniform(116, 122, (512, 8))).astype("f4")
    backend.kernels.select_isa(isa)
    try:
        with np.errstate(over="ignore"):
            for scales, factors in ((exponents, powers), (floats, floats.astype("f8"))):
                expected = (elements.view(format).astype("f8") * np.repeat(factors, 32, 1)).astype("f4")
                for dtype in (np.dtype("f4"), np.dtype(ml_dtypes.bfloat16)):
                    table = fe.PackedTable(elements, 256, format=format, scales=scales, dtype=dtype)
                    np.testing.assert_array_equal(table(np.arange(512)).astype("f4"), expected.astype(dtype).astype("f4"))
    finally:
        backend.kernels.select_isa(used)


@needs_c
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16])
def test_results_too_large_for_the_cache_have_the_same_bits_at_every_place(isa, dtype):
    # from 8 MiB on results are collected in lines, from 512 bytes a row on
    rng, used, width = np.random.default_rng(8), backend.kernels.build_info()["isa"], 300
    rows = rng.integers(0, 256, (9, width + 10), np.uint8)
    rows[::2] &= 0x77  # without NaN, and with scales for the short way
    table = fe.PackedTable(rows, width, format="float8_e4m3fn")
    ids = rng.integers(-1, 9, 15_000)
    expected = np.concatenate([table(part, out=np.empty((100, width), dtype), bounds="zero") for part in ids.reshape(-1, 100)])
    backend.kernels.select_isa(isa)
    try:
        for out, is_whole in filled_places(expected.shape, dtype):
            table(ids, out=out, bounds="zero")
            assert same_bits(out, expected)
            assert is_whole()
    finally:
        backend.kernels.select_isa(used)


def bytes_of(*row):
    return np.array([row], np.uint8)


def test_elements_written_out_by_hand():
    """A few of each format, by the tables of their specifications; no other decoder is needed."""
    row = bytes([0x00, 0x80, 0x01, 0x08, 0x38, 0xB9, 0x7E, 0x7F])
    table = fe.PackedTable(bytes_of(*row, 127, 128), 8, format="float8_e4m3fn", block_size=4)
    assert same_bits(table(0), np.array([0.0, -0.0, 2**-9, 2**-6, 2.0, -2.25, 896.0, np.nan], "f4"))
    row = bytes([0x00, 0x80, 0x01, 0x04, 0x3C, 0xBD, 0x7B, 0x7C, 0xFC, 0x7D])
    table = fe.PackedTable(bytes_of(*row), 10, format="float8_e5m2", scales=np.array([[0.5]], "f4"))
    assert same_bits(table(0), np.array([0, -0.0, 2**-17, 2**-15, 0.5, -0.625, 28672, np.inf, -np.inf, np.nan], "f4"))
    assert fe.PackedTable(bytes_of(0, 0x3C, 0x80, 0x3F), 2, format="bfloat16")(0).tolist() == [0.0078125, 1.0]
    block = struct.pack("<e", 0.5) + bytes([1, 255, 128, *[0] * 29])
    assert fe.PackedTable(bytes_of(*block), 32, format="q8_0")(0)[:4].tolist() == [0.5, -0.5, -64.0, 0.0]
    block = struct.pack("<e", 2.0) + bytes([0xF0, *[0x88] * 15])
    got = fe.PackedTable(bytes_of(*block), 32, format="q4_0")(0)
    assert (got[[0, 1, 16, 17]].tolist(), np.count_nonzero(got)) == ([-16.0, 0.0, 14.0, 0.0], 2)
    block = struct.pack("<2e", 1.0, 0.5) + bytes([3, 0, 0, 0, 1, 0, 0, 0, *[0] * 4, 0x27, *[0] * 127])
    got = fe.PackedTable(bytes_of(*block), 256, format="q4_k")(0)
    assert (got[:2].tolist(), got[32:].any()) == ([20.5, -0.5], False)


def test_results_of_half_precision_are_rounded_once():
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 256, (20, 34), np.uint8)
    for dtype in ("float16", "bfloat16"):
        wide, narrow = (fe.PackedTable(rows, 32, format="q8_0", dtype=to) for to in ("float32", dtype))
        with np.errstate(all="ignore"):
            for call in (lambda t: t([3, 4]), lambda t: t.bag([[3, 4]]), lambda t: t.gather_add([1], np.ones((1, 32)))):
                assert same_bits(call(narrow), call(wide).astype(dtype))
        out = np.empty((2, 32), dtype)
        assert narrow([5, 6], out=out) is out
        assert narrow.dequantize().dtype == np.float32


@pytest.mark.parametrize("format", FORMATS)
def test_copies_files_and_search(format, tmp_path):
    rng = np.random.default_rng(4)
    width = WIDTHS[format][-1]
    for _ in range(3):
        rows, options, _ = table_of(rng, format, width)
        table = fe.PackedTable(rows, width, dtype="float16", **options)
        table.save(tmp_path / "table.safetensors")
        for other in (pickle.loads(pickle.dumps(table)), fe.PackedTable.load(tmp_path / "table.safetensors")):
            assert repr(other) == repr(table)
            assert same_bits(other([0, 8]), table([0, 8]))
        assert table.nbytes == rows.nbytes + (table.scales.nbytes if "scales" in options else 0)
        assert (table.num_embeddings, table.embedding_dim, table.format, table.dtype) == (9, width, format, np.float16)
    ones = fe.PackedTable(np.eye(6, 6, dtype="f2"), 6, format="float16")
    assert ones.nearest(ones.dequantize()[2], 1).ids.tolist() == [2]


def test_files_of_others_are_refused(tmp_path):
    path, rows = tmp_path / "other.safetensors", np.zeros((3, 34), np.uint8)
    good = {"kind": "PackedTable", "embedding_dim": 32, "format": "q8_0", "dtype": "float32"}
    for tensors, description in (
        ({"rows": rows}, None),
        ({"rows": rows}, good | {"kind": "Embedding"}),
        ({"rows": rows}, good | {"format": "q4_0"}),
        ({"rows": rows}, good | {"format": 3}),
        ({"rows": rows}, good | {"dtype": "float64"}),
        ({"rows": rows}, good | {"other": 1}),
        ({"rows": rows}, good | {"rows": rows.tolist()}),
        ({"rows": rows}, good | {"x" * 10**5: 1}),
        ({"rows": rows}, {"kind": "PackedTable"}),
        ({"rows": rows, "scales": rows}, good),
        ({"rows": rows, "more": rows}, good),
        ({"scales": rows}, good),
    ):
        checkpoint.save(path, tensors, description)
        with pytest.raises(checkpoint.CheckpointError, match=r"other.safetensors does not hold a PackedTable") as found:
            fe.PackedTable.load(path)
        assert len(str(found.value)) < 500


def test_what_is_refused():
    rows, scales = np.zeros((3, 33), np.uint8), np.zeros((3, 1), np.uint8)
    e4m3 = {"format": "float8_e4m3fn"}
    for arguments, options, error, text in (
        ((rows, 32), {"format": "q9"}, ValueError, "format must be one of float8_e4m3fn, .*; got 'q9'"),
        ((rows, 32), {"format": 4}, ValueError, "format must be one of .*; got 4"),
        ((rows, 33), {"format": "q8_0"}, ValueError, "embedding_dim must be a multiple of the block of q8_0, got 33"),
        ((rows, 32), {"format": "q8_0"}, ValueError, r"rows must have shape \(rows, 34\) for that embedding_dim and format"),
        ((rows, 32), {"format": "q8_0", "scales": scales}, ValueError, "scales belong to FP8, and rows of q8_0 have none"),
        ((rows, 32), {"format": "q8_0", "block_size": 32}, ValueError, "block_size belong to FP8"),
        ((rows, 32), {"format": "float16", "scale_format": "ue8m0"}, ValueError, "scale_format belong to FP8"),
        ((rows, 31), e4m3, ValueError, r"rows must have shape \(rows, 32\)"),
        ((rows, 33), e4m3 | {"scales": scales}, ValueError, r"scales must be 2 for each row, one for each 32 \(block_size\) of"),
        ((rows[:, :32], 32), e4m3, ValueError, "33 bytes each for 32 columns, of which 1 are scales, got 32: scales= takes"),
        ((rows[:, :32], 32), e4m3 | {"scales": np.uint8(1)}, ValueError, r"scales must have 2 axes .*, got shape \(\)"),
        ((rows[:, :32], 32), e4m3 | {"scales": np.float32(1)}, ValueError, r"scales must have 2 axes .*, got shape \(\)"),
        ((rows[:, :32], 32), e4m3 | {"scales": scales[:, 0]}, ValueError, r"scales must have 2 axes .*, got shape \(3,\)"),
        ((rows[:, :32], 32), e4m3 | {"scales": scales[:2]}, ValueError, "scales must be of 3 rows, got 2"),
        ((rows[:, :32], 32), e4m3 | {"scales": scales.astype(int)}, TypeError, "uint8, float8_e8m0fnu or float32, got int64"),
        ((rows.astype(int), 32), e4m3, TypeError, "rows must be uint8 or float8_e4m3fn, got int64"),
        ((rows[0], 32), e4m3, ValueError, r"rows must have shape \(rows, 33\)"),
        ((np.zeros((3, 66), np.uint8)[:, ::2], 32), e4m3, ValueError, "rows must have contiguous rows"),
        ((np.zeros((3, 8), "f2")[:, ::2], 4), {"format": "float16"}, ValueError, "rows must have contiguous rows"),
        ((np.zeros((3, 4), ">f2"), 4), {"format": "float16"}, TypeError, "rows must be uint8 or float16, got >f2"),
        ((rows, 32), e4m3 | {"block_size": 0}, ValueError, "block_size must be at least 1, got 0"),
        ((rows, 32), e4m3 | {"block_size": 2**63 - 1}, ValueError, "block_size must be at most"),
        ((rows, 32), e4m3 | {"scale_format": "e4m3"}, ValueError, "scale_format must be one of ue8m0, float32; got 'e4m3'"),
        ((rows, 2**62), {"format": "float16"}, ValueError, "embedding_dim must be at most"),
        ((rows, -1), e4m3, ValueError, "embedding_dim must be from 0"),
        ((rows, 32), e4m3 | {"dtype": "float64"}, TypeError, "dtype must be float32, float16 or bfloat16, got float64"),
    ):
        with pytest.raises(error, match=text):
            fe.PackedTable(*arguments, **options)
    memory, wpe = np.zeros(200, np.float32), np.ones((1, 32))
    inside = memory[:32].reshape(1, 32)
    table = fe.PackedTable(rows[:, :32], 32, scales=memory.view(np.uint8)[:3].reshape(3, 1), **e4m3)
    for call, error, text in (
        (lambda: table([0, 3]), IndexError, r"id 3 at position \(1,\) is out of range for a table of 3 rows"),
        (lambda: table([0], out=np.empty((1, 32))), TypeError, "out must be float32"),
        (lambda: table([0], out=inside), ValueError, "out must not overlap scales"),
        (lambda: table.bag([[0]], out=inside), ValueError, "out must not overlap scales"),
        (lambda: table.gather_add([0], wpe, out=inside), ValueError, "out must not overlap scales"),
        (lambda: table.gather_add([0], np.ones((1, 31))), ValueError, r"wpe must have shape \(rows, 32\)"),
    ):
        with pytest.raises(error, match=text):
            call()


@pytest.mark.skipif(backend.name != "c", reason="of the boundary to C")
def test_the_boundary_refuses_what_would_read_elsewhere():
    from fastembed._kernels.packing import Packing

    kernels, ids, out, rows = backend.kernels, np.zeros(1, np.int64), np.empty((1, 32), "f4"), np.zeros((3, 33), np.uint8)
    elements, good = rows[:, :32], Packing("float8_e4m3fn", 32)
    kernels.gather(rows, ids, out, "raise", good)
    for table, packing in (
        (elements, good),
        (rows, good._replace(has_float_scales=True)),
        (rows, good._replace(block_size=16)),
        (rows, Packing("q8_0")),
        (rows, good._replace(scales=rows)),
        (elements, good._replace(scales=np.zeros((2, 1), np.uint8))),
        (elements, good._replace(scales=np.zeros((3, 2), np.uint8))),
        (elements, good._replace(scales=np.zeros((3, 1), np.int8))),
        (rows.view(np.int8), good),
        (np.zeros((3, 66), np.uint8)[:, ::2], good),
    ):
        with pytest.raises(ValueError, match="shape or dtype of the packed table does not match the result"):
            kernels.gather(table, ids, out, "raise", packing)
    with pytest.raises(ValueError, match="scales of blocks of no element"):
        kernels.gather(rows, ids, out, "raise", good._replace(block_size=0))
    with pytest.raises(ValueError, match="does not match the result"):
        kernels.gather(np.zeros((3, 34), np.uint8), ids, np.empty((1, 33), "f4"), "raise", Packing("q8_0"))


def test_bfloat16_of_ml_dtypes_is_read_where_it_is():
    table = np.arange(12, dtype="f4").reshape(3, 4).astype(ml_dtypes.bfloat16)
    packed = fe.PackedTable(table, 4, format="bfloat16")
    assert np.shares_memory(packed.packed, table)
    table[1] = 7
    assert packed([1]).tolist() == [[7.0] * 4]
