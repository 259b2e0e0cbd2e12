"""Sums of rows of two tables, and searches, of tables on disk: the bits of the table in memory."""

import json
import os

import numpy as np
import pytest
from common import outcome, same_bits
from disk_files import IS_C, SMALL, V, packed_file, rows_file, save

import fastembed as fe
from fastembed.checkpoint import CheckpointError
from fastembed.functional.search import nearest
from fastembed.io.disk import rows as disk_rows

pytestmark = pytest.mark.on_reference


def same_outcome(got, expected):
    if "raised" in (got[0], expected[0]):
        return got == expected
    arrays = zip(got[1], expected[1], strict=True) if isinstance(got[1], tuple) else [(got[1], expected[1])]
    return all(same_bits(*pair) for pair in arrays)


@pytest.mark.parametrize("format", ["float8_e5m2", "float16", "q4_k"])
def test_sums_and_searches_of_packed_rows_are_those_of_the_table_in_memory(format, way, tmp_path):
    width, n = 256, V if IS_C else 24
    path, memory, options = packed_file(tmp_path, np.random.default_rng(2), format, width, n)
    rng = np.random.default_rng(3)
    wpe, queries = rng.standard_normal((9, width)).astype("f4"), rng.standard_normal((2, width)).astype("f4")
    with fe.DiskTable(path, "rows", embedding_dim=width, cache_bytes=1 << 20, **options, **way) as table:
        for arguments in (
            *(([[3, 5], [5, n - 1]], wpe), ([1, 2], wpe, [8, 0]), (7, wpe[:, ::-1].astype("f2")), ([], wpe)),
            *(([n], wpe), ([1], wpe[:, :3]), ([1], wpe, [9]), ([1, 2], wpe, None, 8), ([1.5], wpe)),
        ):
            *given, start = (*arguments, 0) if len(arguments) < 4 else arguments
            got, expected = (outcome(of.gather_add, *given, start=start) for of in (table, memory))
            assert same_outcome(got, expected)
        assert same_bits(*(of.gather_add([n, 2, -1], wpe, [0, 9, 1], bounds="zero") for of in (table, memory)))
        before = table.statistics()
        for metric in ("cosine", "dot", "l2"):
            got, expected = (outcome(of.nearest, queries, 5, metric) for of in (table, memory))
            assert got[0] == "returned"
            assert same_outcome(got, expected)
        for ids in ([4, 5], [[n]], [7], 8, 9, 10):
            got, expected = (outcome(of.nearest, ids, 1, "l2", exclude_queries=True) for of in (table, memory))
            assert same_outcome(got, expected)
        assert same_outcome(*(outcome(of.analogy, 1, 2, 3) for of in (table, memory)))
        assert table.statistics() == before  # the cache is left alone


def test_a_search_reads_every_shard_in_order(way, tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    array = rng.standard_normal((3000, 10)).astype("f2")
    save(tmp_path / "a.safetensors", r0=array[:100], other=np.ones((3, 3)), r1=array[100:101])
    save(tmp_path / "b.safetensors", r2=array[101:])
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"r0": "a.safetensors", "r1": "a.safetensors", "r2": "b.safetensors"}}))
    monkeypatch.setattr(nearest, "_ONE_PASS_BYTES", 4 * 10 * 64)  # blocks of 64 rows
    with fe.DiskTable(index, ["r0", "r1", "r2"], cache_bytes=SMALL, **way) as table:
        found = table.nearest(array[[2, 100, 2999]].astype("f4"), 3)
        assert same_bits(found.ids, fe.Embedding.from_pretrained(array).nearest(array[[2, 100, 2999]].astype("f4"), 3).ids)
        os.truncate(tmp_path / "b.safetensors", os.path.getsize(tmp_path / "b.safetensors") - 30)
        with pytest.raises(CheckpointError, match=r"b\.safetensors has become shorter, and row 2998 is not whole"):
            table.nearest(np.ones(10, "f4"))
        descriptor = table._rows._files[tmp_path / "b.safetensors"].descriptor
        saved, folder = os.dup(descriptor), os.open(tmp_path, os.O_RDONLY)
        os.dup2(folder, descriptor)  # a read of which fails
        with pytest.raises(IsADirectoryError, match="row 101 cannot be read"):
            table.nearest(np.ones(10, "f4"))
        os.dup2(saved, descriptor), os.close(saved), os.close(folder)


def test_a_search_that_is_under_way_outlives_the_table(way, tmp_path, monkeypatch):
    path, array = rows_file(tmp_path / "t.npy")
    table = fe.DiskTable(path, cache_bytes=SMALL, **way)
    expected, read = table.nearest([1.0] * 10), disk_rows._File.read

    def closed_meanwhile(file, at, size):
        table.close()
        return read(file, at, size)

    monkeypatch.setattr(disk_rows._File, "read", closed_meanwhile)
    assert same_bits(table._rows.in_order(0, V).view("f4"), array)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="the table is closed"):
        table.nearest([1.0] * 10)
    with fe.DiskTable(path, cache_bytes=SMALL, **way) as table:
        assert same_bits(table.nearest([1.0] * 10).scores, expected.scores)
