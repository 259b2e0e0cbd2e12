"""Tables that are split: the rows of one table, in every place; what is refused."""

import json

import numpy as np
import pytest
from common import BOUNDS, assert_same, outcome, same_bits

import fastembed as fe
from fastembed import checkpoint

pytestmark = pytest.mark.on_reference


def rows_of(rng, n):
    """Rows of 64 elements of FP8 with two scales, no NaN."""
    rows = rng.integers(0, 256, (n, 66), np.uint8) & 0xF7
    rows[:, 64:] = rng.integers(110, 135, (n, 2))
    return rows


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_parts_are_one_table(bounds, dtype):
    rng = np.random.default_rng(0)
    rows = rows_of(rng, 20)
    of = {"format": "float8_e4m3fn", "dtype": dtype}
    whole = fe.PackedTable(rows, 64, **of)
    split = fe.SplitTable([fe.PackedTable(part, 64, **of) for part in (rows[:0], rows[:7], rows[7:7], rows[7:8], rows[8:])])
    for ids in (3, [0, 19, 7, 8, 6], rng.integers(0, 20, (3, 4)), np.zeros((0, 2), int), [1, 25, -1], [[7, -3]]):
        expected = outcome(whole, ids, bounds=bounds)
        assert_same(outcome(split, ids, bounds=bounds), expected, np.dtype(dtype), (*np.shape(ids), 64))
        out = np.full((*np.shape(ids), 65), 7, dtype)
        assert_same(outcome(split, ids, bounds=bounds, out=out[..., 1:]), expected, np.dtype(dtype), (*np.shape(ids), 64))
        if expected[0] == "raised":
            assert (out == 7).all()
    assert (split.num_embeddings, split.embedding_dim, split.dtype, len(split.parts)) == (20, 64, np.dtype(dtype), 5)
    assert repr(split) == f"SplitTable(20, 64, 5 parts, dtype='{dtype}')"


def test_ngrams_of_a_table_in_several_shards(tmp_path):
    rng = np.random.default_rng(1)
    rows, places = rows_of(rng, 20), {}
    for k, part in enumerate((rows[:9], rows[9:])):
        tensors = {f"all.{k}": part, f"rows.{k}": part[:, :64].copy(), f"scales.{k}": part[:, 64:].copy()}
        checkpoint.save(tmp_path / f"{k}.safetensors", tensors)
        places |= dict.fromkeys(tensors, f"{k}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    shards, of = fe.open_shards(index), {"format": "float8_e4m3fn"}
    hash = fe.NgramHash([3, 5], [[7, 11]], vocab_size=30, fill=0)
    whole = fe.PackedNgramEmbedding(hash, fe.PackedTable(rows, 64, **of))
    ids = rng.integers(0, 30, (2, 9))
    one = fe.SplitTable.from_shards(shards, ["all.0", "all.1"], 64, **of)
    two = fe.SplitTable.from_shards(shards, ["rows.0", "rows.1"], 64, scales=["scales.0", "scales.1"], **of)
    for table in (one, two):
        assert same_bits(fe.PackedNgramEmbedding(hash, table)(ids), whole(ids))
    with pytest.raises(ValueError, match="scales must be 2 names, as many as rows, got 1"):
        fe.SplitTable.from_shards(shards, ["rows.0", "rows.1"], 64, scales=["scales.0"], **of)


def test_what_is_refused():
    halves = fe.PackedTable(np.zeros((2, 4), "f2"), 4, format="float16")
    for parts, error, text in (
        ([], ValueError, "parts must be at least 1 table, got none"),
        ([halves, 5], TypeError, "parts must be PackedTable, got 5 at position 1"),
        (
            [halves, fe.PackedTable(np.zeros((2, 3), "f2"), 3, format="float16")],
            ValueError,
            "got 3 and float32 at position 1 after 4",
        ),
        ([halves, fe.PackedTable(np.zeros((2, 4), "f2"), 4, format="float16", dtype="float16")], ValueError, "got 4 and float16"),
    ):
        with pytest.raises(error, match=text):
            fe.SplitTable(parts)
    held = np.zeros((4, 2), "f4")
    table = fe.SplitTable([fe.PackedTable(held.view(np.uint8)[:, :4], 2, format="float16", dtype="float32")])
    with pytest.raises(ValueError, match="out must not overlap part 0"):
        table([0, 1, 2, 3], out=held)
