"""Tables on disk: the bits of the table in memory, by every way; the cache; faults of files."""

import json
import os
import sys
import threading

import ml_dtypes
import numpy as np
import pytest
from common import BOUNDS, assert_same, needs_c, outcome, same_bits
from disk_files import IS_C, SMALL, WAYS, V, packed_file, rows_file, save, usable

import fastembed as fe
from fastembed import checkpoint
from fastembed.checkpoint import CheckpointError
from fastembed.tables.packed import FORMATS

pytestmark = pytest.mark.on_reference


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("turn", range(2))
def test_packed_rows_are_those_of_the_table_in_memory(format, turn, tmp_path):
    """Decoding is the same in every way, so that each format takes two of them."""
    V, way = 40 if IS_C else 12, usable(WAYS[(2 * turn + FORMATS.index(format)) % len(WAYS)], tmp_path)
    rng = np.random.default_rng(turn)
    width = 256 if "_" in format and not format.startswith("float") else int(rng.integers(1, 300))
    dtype = ["float32", "float16", "bfloat16"][rng.integers(3)]
    path, memory, options = packed_file(tmp_path, rng, format, width, V, dtype)
    with fe.DiskTable(path, "rows", embedding_dim=width, dtype=dtype, cache_bytes=64 * 2000, **options, **way) as table:
        assert (table.num_embeddings, table.embedding_dim, table.dtype, table.format) == (V, width, memory.dtype, format)
        assert table.nbytes == memory.nbytes
        for k in range(3):
            ids = rng.integers(-V, 2 * V, (2, rng.integers(1, 1 + V)))
            bounds = BOUNDS[rng.integers(1, 4)]
            if k:
                table.prefetch(ids, bounds=bounds)
            assert same_bits(table(ids, bounds=bounds), memory(ids, bounds=bounds))
            assert same_bits(table.bag(ids, mode="sum", bounds=bounds), memory.bag(ids, mode="sum", bounds=bounds))
        arguments = {"offsets": [0, 3, 3, 9], "mode": "max", "padding_idx": int(ids[0, 0] % V), "bounds": "wrap"}
        flat = ids.reshape(-1)[:12] if ids.size >= 12 else np.arange(12)
        assert same_bits(table.bag(flat, **arguments), memory.bag(flat, **arguments))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("width", [1, 7, 1024, 9000])
def test_floats_keep_their_bits(dtype, width, way, tmp_path):
    rng, V = np.random.default_rng(width), 80 if IS_C else 20
    to = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    array = rng.standard_normal((V, width)).astype(to)
    path = save(tmp_path / "t.safetensors", wte=array, other=np.ones(3))
    with fe.DiskTable(path, cache_bytes=max(SMALL, 64 * (width * to.itemsize + 200)), **way) as table:
        for ids in (rng.integers(0, V, V // 2), np.arange(V), np.arange(0), 5, [[7, 7], [8, 7]]):
            table.prefetch(ids)
            assert same_bits(table(ids), array[ids])
        out = np.full((2, width + 3), 7, to)
        assert table([3, 4], out=out[:, :width]).base is not None
        assert same_bits(out[:, :width], array[3:5])
        assert (out[:, width:] == 7).all()
        assert table.statistics()[-3:-1] == (way["engine"], way["direct"])


def test_rows_of_several_shards_are_one_table(way, tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (V, 64), np.uint8).view(ml_dtypes.float8_e4m3fn)
    scales = rng.integers(100, 140, (V, 2), np.uint8).view(ml_dtypes.float8_e8m0fnu)
    save(tmp_path / "a.safetensors", r0=rows[:100], s=scales)
    save(tmp_path / "b.safetensors", r1=rows[100:101], r2=rows[101:])
    index = tmp_path / "m.safetensors.index.json"
    places = {"r0": "a.safetensors", "s": "a.safetensors", "r1": "b.safetensors", "r2": "b.safetensors"}
    index.write_text(json.dumps({"weight_map": places}))
    memory = fe.PackedTable(rows, 64, format="float8_e4m3fn", scales=scales)
    with fe.DiskTable(index, ["r0", "r1", "r2"], scales="s", cache_bytes=SMALL, **way) as table:
        assert same_bits(table(np.arange(V)), memory(np.arange(V)))
        assert repr(table) == "DiskTable(300, 64, format='float8_e4m3fn', dtype='float32')"
    with pytest.raises(ValueError, match="scales must be 100, got 300"):
        fe.DiskTable(index, "r0", scales="s", cache_bytes=SMALL)


def test_gguf(tmp_path):
    gguf = pytest.importorskip("gguf", reason="writes the file")
    path = tmp_path / "m.gguf"
    rows = np.random.default_rng(0).integers(0, 256, (V, 2 * 34), np.uint8)
    writer = gguf.GGUFWriter(path, "x")
    writer.add_tensor("token_embd.weight", rows, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file()
    writer.close()
    memory = fe.PackedTable.from_gguf(path, "token_embd.weight")
    with fe.DiskTable(path, cache_bytes=SMALL) as table:
        assert same_bits(table(np.arange(V)), memory(np.arange(V)))


def test_a_row_is_read_once_and_pages_are_merged(way, tmp_path):
    path, _ = rows_file(tmp_path / "t.npy", 5000, 64)  # 16 rows a page
    with fe.DiskTable(path, cache_bytes=1 << 22, **way) as table:
        table(np.tile(np.arange(64), 5))
        first = table.statistics()
        assert (first.misses, first.hits, first.failed, first.evicted) == (64, 64 * 4, 0, 0)
        assert first.bytes_read <= (8 if IS_C else 2 * 64) * 4096
        assert first.reads <= (2 if IS_C else 64)
        table(np.arange(64))
        assert table.statistics()[5:8] == first[5:8]
        assert table.statistics().hits == first.hits + 64


def test_a_look_up_after_a_prefetch_asks_for_nothing(way, tmp_path):
    path, array = rows_file(tmp_path / "t.npy", 5000, 64)
    ids = np.random.default_rng(0).permutation(5000)[:1000]
    with fe.DiskTable(path, cache_bytes=1 << 22, **way) as table:
        table.prefetch(ids)
        while table.statistics().prefetched < 1000:
            pass
        assert same_bits(table(ids), array[ids])
        found = table.statistics()
        assert (found.hits, found.misses, found.prefetched, found.skipped) == (1000, 0, 1000, 0)
        table.prefetch(np.arange(5000))
        assert table.statistics().skipped >= 5000 - found.cache_rows // 4


def test_the_cache_is_bounded_and_hot_rows_stay(way, tmp_path):
    path, array = rows_file(tmp_path / "t.npy", 20_000, 16)
    with fe.DiskTable(path, cache_bytes=SMALL, **way) as table:
        n_rows = table.statistics().cache_rows
        assert n_rows * 64 < SMALL
        hot, last = np.arange(10), 20_000 if IS_C else 5_000
        for first in range(100, last, 50):
            assert same_bits(table(np.concatenate([hot, np.arange(first, first + 50)]))[:10], array[hot])
        found = table.statistics()
        assert found.evicted >= found.misses - n_rows
        assert found.misses <= last + 50


def test_more_rows_than_the_cache_holds(way, tmp_path):
    path, array = rows_file(tmp_path / "t.npy", 3000, 16)
    rng = np.random.default_rng(0)
    with fe.DiskTable(path, cache_bytes=SMALL, **way) as table:
        ids = rng.integers(-50, 3050, (30, 100))
        expected = np.where(((ids >= 0) & (ids < 3000))[..., None], array[ids % 3000], 0).astype("f4")
        assert same_bits(table(ids, bounds="zero"), expected)
        wanted = fe.embedding_bag(array, ids, mode="mean", bounds="clip")
        assert same_bits(table.bag(ids, mode="mean", bounds="clip"), wanted)


def test_ids_are_refused_as_in_memory(tmp_path):
    path, array = rows_file(tmp_path / "t.npy")
    with fe.DiskTable(path, cache_bytes=SMALL) as table:
        for ids in ([0, V], [[-1]], [1.5], np.array([2**63], np.uint64), "a"):
            expected = outcome(fe.gather, array, ids)
            assert_same(outcome(table, ids), expected, "f4", ())
            assert outcome(table.prefetch, ids) == expected
        assert outcome(table, [0], bounds="no") == outcome(fe.gather, array, [0], bounds="no")
        for out in (np.empty((1, 9), "f4"), np.empty((1, 10)), [1]):
            assert outcome(table, [0], out=out) == outcome(fe.gather, array, [0], out=out)
        before = table.statistics()
        assert table.prefetch([]) is None
        assert table.statistics() == before


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"name": "no"}, KeyError, "no tensor 'no', but there is bytes, flat, floats and 1 more"),
        ({"name": None}, ValueError, "name must say which .* there is bytes, floats, scales"),
        ({"name": "flat"}, ValueError, r"tensor 'flat' must have rows and columns, got shape \(3,\)"),
        ({"name": []}, ValueError, "name must be that of one tensor at least"),
        (
            {"name": ["bytes", "floats"]},
            ValueError,
            "'floats' must have rows of 36 uint8, as the first one, got 4 float32",
        ),
        ({"name": "bytes"}, ValueError, "format must be one of"),
        ({"format": "q8_0"}, ValueError, "embedding_dim is needed for rows of bytes"),
        ({"format": "q8_0", "embedding_dim": 33}, ValueError, "embedding_dim must be a multiple of the block of q8_0, got 33"),
        ({"format": "q8_0", "embedding_dim": 32}, ValueError, "rows must have 34 bytes each for 32 columns, got 36"),
        ({"format": "q8_0", "embedding_dim": 32, "scales": "scales"}, ValueError, "scales belong to FP8, and rows of q8_0"),
        (
            {"format": "float8_e5m2", "embedding_dim": 36, "scales": "floats"},
            ValueError,
            "scales must have 8 bytes each",
        ),
        ({"name": "floats", "scales": "scales"}, ValueError, "scales belongs to packed rows, and those of float32 are not"),
        ({"name": "floats", "cache_bytes": 100}, ValueError, "cache_bytes must be at least [0-9]+, for 64 rows; got 100"),
        ({"name": "floats", "engine": "mmap"}, ValueError, "engine must be one of auto, io_uring, pread; got 'mmap'"),
        ({"name": "floats", "in_flight": 0}, ValueError, "in_flight must be from 1 to 1024, got 0"),
        ({"name": "floats", "direct": 1.5}, TypeError, "direct must be True or False"),
    ],
)
def test_what_is_refused(arguments, error, text, tmp_path):
    tensors = {"bytes": np.zeros((V, 36), np.uint8), "floats": np.zeros((V, 4), "f4"), "flat": np.zeros(3)}
    path = save(tmp_path / "t.safetensors", scales=np.zeros((V, 2), np.uint8), **tensors)
    n_open = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(error, match=text):
        fe.DiskTable(path, **{"name": "bytes", "cache_bytes": SMALL} | arguments)
    if n_open:
        assert len(os.listdir("/proc/self/fd")) == n_open


def test_missing_and_damaged_files(tmp_path):
    path, _ = rows_file(tmp_path / "t.npy")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="does not end where the file does"):
        fe.DiskTable(path)


def test_byte_swapped_rows_are_refused(tmp_path):
    np.save(tmp_path / "t.npy", np.ones((4, 3), np.float32).astype(">f4" if sys.byteorder == "little" else "<f4"))
    with pytest.raises(
        CheckpointError, match=r"t\.npy: rows on disk are read as they are, and these are byte-swapped \([<>]f4\)$"
    ):
        fe.DiskTable(tmp_path / "t.npy")


def test_a_file_that_becomes_shorter_fails_the_rows_that_it_lacks(way, tmp_path):
    path, array = rows_file(tmp_path / "t.npy", 5000, 64)
    with fe.DiskTable(path, cache_bytes=1 << 22, **way) as table:
        os.truncate(path, 128 + 100 * 256)
        assert same_bits(table(np.arange(100)), array[:100])
        out = np.full((3, 64), 7, "f4")
        for _ in range(2):
            table.prefetch([99, 100, 4999])
            with pytest.raises(CheckpointError, match=r"t\.npy has become shorter, and row 4999 is not whole"):
                table([99, 4999, 100], out=out)
        assert (out == 7).all()
        assert same_bits(table(np.arange(100)), array[:100])
        with pytest.raises(CheckpointError, match="has become shorter"):
            table(np.arange(5000))
        with open(path, "r+b") as file:  # and it is whole again
            file.seek(128)
            file.write(array.tobytes())
        found = outcome(table, np.arange(5000))
        for _ in range(1000):  # reads that began before may still be under way, and calls join them
            found = outcome(table, np.arange(5000)) if found[0] == "raised" else found
        assert same_bits(found[1], array)


def test_layers_write_nothing_if_one_cannot_read_its_rows(way, tmp_path):
    hash = fe.NgramHash([3, 5], [[V // 2, V // 3]], vocab_size=50, fill=0)
    rows = np.random.default_rng(0).standard_normal((V, 8)).astype("f4")
    path, memory = save(tmp_path / "t.safetensors", wte=rows), fe.NgramEmbedding(hash, rows)
    with fe.DiskTable(path, cache_bytes=SMALL, **way) as whole, fe.DiskTable(path, cache_bytes=SMALL, **way) as table:
        layers = [memory, *(fe.PackedNgramEmbedding(hash, each) for each in (whole, table))]
        ids, outs = [3, 4], [np.full((2, 16), 7, "f4") for _ in layers]
        found = fe.NgramEmbedding.look_up_layers(layers, ids, outs=outs)
        assert all(x is out and same_bits(x, memory(ids)) for x, out in zip(found, outs, strict=True))
        for out in outs:
            out[...] = 7
        os.truncate(path, os.path.getsize(path) - rows.nbytes)
        places = [np.full((40, 16), 7, "f4") for _ in layers]
        with pytest.raises(CheckpointError, match="has become shorter"):
            fe.NgramEmbedding.look_up_layers(layers, np.arange(5, 45), outs=places)
        assert all((place == 7).all() for place in places)


@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}, {"block_size": 5}, {"scales": True}, {"format": "q8_0"}])
def test_a_saved_packed_table_says_what_it_is(options, tmp_path):
    rng, options = np.random.default_rng(0), {"format": "float8_e4m3fn", **options}
    rows = rng.integers(0, 100, (V, 34 if options["format"] == "q8_0" else 32)).astype(np.uint8)
    if options["format"] != "q8_0":
        scales = rng.integers(120, 130, (V, -(-32 // options.get("block_size", 32)))).astype(np.uint8)
        if options.pop("scales", False):
            options["scales"] = scales
        else:
            rows = np.hstack([rows, scales])
    memory = fe.PackedTable(rows, 32, **options)
    memory.vocabulary = [f"row {k}" for k in range(V)]
    memory.save(tmp_path / "t.safetensors")
    with fe.DiskTable(tmp_path / "t.safetensors", cache_bytes=SMALL) as table:
        assert (table.format, table.dtype) == (memory.format, memory.dtype)
        assert same_bits(table[["row 3", "row 1"]], memory([3, 1]))
    with pytest.raises(ValueError, match="format must be one of"):
        fe.DiskTable(tmp_path / "t.safetensors", "rows")


def test_a_closed_table(way, tmp_path):
    path, _ = rows_file(tmp_path / "t.npy")
    table = fe.DiskTable(path, cache_bytes=SMALL, **way)
    table.prefetch(np.arange(V))
    table.close()
    table.close()
    for call in (table, table.prefetch, table.bag):
        with pytest.raises(ValueError, match="the table is closed"):
            call([[1]])
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        table.__reduce__()


@needs_c
def test_threads_share_a_table(way, tmp_path):
    path, array = rows_file(tmp_path / "t.npy", 3000, 16)
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for k in range(60):
            ids = rng.integers(0, 3000, rng.integers(1, 150))
            if k % 3 == 0:
                table.prefetch(rng.integers(0, 3000, 50))
            if not same_bits(table(ids), array[ids]):
                wrong.append(seed)

    with fe.DiskTable(path, cache_bytes=SMALL, **way) as table:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        [thread.start() for thread in threads]
        [thread.join(600) for thread in threads]
        assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_an_ngram_layer_on_a_table_in_a_file(way, tmp_path):
    rng = np.random.default_rng(0)
    hash = fe.NgramHash([3, 5, 9], [[701, 503], [311, 229]], vocab_size=100, fill=0, cut=4)
    packed = rng.integers(0, 256, (hash.n_rows, 66), np.uint8)
    floats = rng.standard_normal((hash.n_rows, 5)).astype("f2")
    path = save(tmp_path / "t.safetensors", packed=packed, floats=floats)
    options = {"embedding_dim": 64, "format": "float8_e4m3fn"}
    with (
        fe.DiskTable(path, "packed", cache_bytes=1 << 20, **options, **way) as disk,
        fe.DiskTable(path, "floats", cache_bytes=1 << 20, **way) as plain,
    ):
        ids, history = rng.integers(0, 100, (2, 30)), rng.integers(0, 100, (2, 2))
        layer, memory = fe.PackedNgramEmbedding(hash, disk), fe.PackedNgramEmbedding(hash, fe.PackedTable(packed, **options))
        layer.prefetch(ids, history)
        assert same_bits(layer(ids, history), memory(ids, history))
        assert same_bits(fe.PackedNgramEmbedding(hash, plain)(ids), fe.NgramEmbedding(hash, floats)(ids))
        with pytest.raises(TypeError, match="table must be a DiskTable for rows to be read ahead"):
            memory.prefetch(ids)
        with pytest.raises(IndexError, match="token id 100"):
            layer.prefetch([100])


def test_messages_say_what_there_is(tmp_path):
    checkpoint.save(tmp_path / "two", {"a": np.zeros((3, 2)), "b": np.zeros((3, 2))})
    with pytest.raises(FileNotFoundError, match="none"):
        fe.DiskTable(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="none"):
        fe.open_shards(tmp_path / "none")
    with pytest.raises(KeyError, match="there is no tensor 'x', but there is a, b"):
        fe.DiskTable(tmp_path / "two", "x")
    with pytest.raises(ValueError, match="name must say which of the tensors of two axes is the table: there is a, b"):
        fe.DiskTable(tmp_path / "two")
    with pytest.raises(ValueError, match="embedding_dim must be 2, as the tensor says, got 7"):
        fe.DiskTable(tmp_path / "two", "a", embedding_dim=7)
    with fe.DiskTable(tmp_path / "two", "a", embedding_dim=2) as table:
        assert table.embedding_dim == 2
