"""Ids of every kind, ids that are not integers, and ids beyond 64 bits."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from common import outcome, same_bits

import fastembed as fe
from fastembed import _checks, reference


@pytest.mark.on_reference
def test_ids_of_every_kind():
    table = np.arange(12.0).reshape(6, 2)
    expected = table[[1, 2]]
    for ids in ([1, 2], (1, 2), range(1, 3), [np.int8(1), np.uint64(2)], np.array([1, 2], ">i2"), memoryview(b"\1\2")):
        assert same_bits(fe.gather(table, ids), expected)
    assert fe.gather(table, []).shape == (0, 2)
    assert fe.gather(table, [[], []]).shape == (2, 0, 2)
    assert same_bits(fe.gather(table, 3), table[3])
    assert same_bits(fe.gather(table, np.int16(3)), table[3])


@pytest.mark.on_reference
@pytest.mark.parametrize("ids", [[1.0], 1.5, True, [True, False], np.array([1.0]), np.zeros(0), ["1"], "1", None, {1: 2}, [None]])
def test_ids_that_are_not_integers_are_a_type_error(ids):
    table = np.zeros((6, 2))
    with pytest.raises(TypeError, match="ids must be integers"):
        fe.gather(table, ids)
    with pytest.raises(TypeError, match="ids must be integers"):
        fe.scatter_add(table, ids, 1.0)


def test_what_is_no_integer_is_shown_with_its_place():
    layer = fe.Embedding(3, 2, rng=0)
    for ids, what in (
        (None, r"None at position \(\)"),
        ([[1, None]], r"None at position \(0, 1\)"),
        (slice(0, 2), r"slice\(0, 2, None\) at position \(\)"),
        ([1.0], "float64"),
        (["king"], r"strings: layer\[names\] has the rows of names"),
    ):
        with pytest.raises(TypeError, match=f"ids must be integers, got {what}"):
            layer(ids)


def test_what_is_no_table_is_called_by_its_kind():
    for table, what in (
        ("glove.txt", "a path, 'glove.txt': fastembed.load_vectors and fastembed.load read files"),
        (Path("glove.txt"), "a path, 'glove.txt'"),
        (SimpleNamespace(weight=3), "an object of the class SimpleNamespace: give its weight"),
        (None, "an object of the class NoneType"),
        ([["a"]], "<U1"),
    ):
        with pytest.raises(TypeError, match=f"array must be float32, .* got {what}"):
            fe.Embedding.from_pretrained(table)


@pytest.mark.on_reference
@pytest.mark.parametrize("big", [2**63, 2**64, -(2**63) - 1, 10**30])
def test_python_integers_beyond_64_bits(big):
    table = np.arange(14.0).reshape(7, 2)
    for ids in ([0, big], [-1, big], [big, big]):
        rows = [i % 7 for i in ids]
        assert same_bits(fe.gather(table, ids, bounds="wrap"), table[rows])
        assert same_bits(fe.gather(table, ids, bounds="clip"), table[np.clip(np.array(ids, object), 0, 6).astype(int)])
        assert outcome(fe.gather, table, ids) == outcome(reference.gather, table.tolist(), ids)
    with pytest.raises(IndexError, match=rf"id {big} at position \(1,\) is out of range for a table of 7 rows"):
        fe.gather(table, [0, big])


def test_offsets_and_masks_are_copied_before_they_are_checked():
    given = np.array([0, 2]), np.array([True, False])
    bags = fe.EmbeddingBag(9, 3)._bags(np.arange(3), given[0], None)
    kept = _checks.sequence_mask((2, 2), None, given[1])
    assert not any(np.shares_memory(array, own) for array, own in zip(given, (bags.offsets, kept), strict=True))
