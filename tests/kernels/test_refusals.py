"""What memory safety depends on is checked at the boundary to C, whatever was checked before."""

import weakref

import numpy as np
import pytest
from common import needs_c

import fastembed as fe
from fastembed._kernels import backend
from fastembed._kernels.packing import Packing

pytestmark = needs_c

TABLE, IDS, OUT = np.zeros((5, 4), "f4"), np.zeros(2, np.int64), np.zeros((2, 4), "f4")


def test_tables_and_rows():
    kernels = backend.kernels
    for table in (TABLE.astype("i4"), TABLE.astype(">f4"), TABLE[:, ::2], TABLE[0]):
        with pytest.raises(ValueError, match="a table must be of native floats"):
            kernels.gather(table, IDS, OUT, "raise")
    for other in (TABLE.astype("f8"), TABLE[:, :3]):
        with pytest.raises(ValueError, match="two tables of different width or dtype"):
            kernels.gather_add(TABLE, IDS, other, None, 0, OUT, "raise")
    for out in (OUT[:1], OUT[:, :3], OUT.astype("f8"), OUT.byteswap().view(">f4"), np.zeros((2, 8), "f4")[:, ::2], OUT[0]):
        with pytest.raises(ValueError, match="shape or dtype of the rows does not match the ids and the table"):
            kernels.gather(TABLE, IDS, out, "raise")
    with pytest.raises(ValueError, match="shape of the gradients does not match the rows"):
        kernels.norm_rows(TABLE, OUT, False, 1e-5)
    for array in (TABLE[:, :2], np.zeros((), "f4")):
        with pytest.raises(ValueError, match="rows of a mapped file lie side by side"):
            kernels.any_nonresident(array, IDS)
    with pytest.raises(ValueError, match="memory in large pages is contiguous"):
        kernels.use_large_pages(TABLE[:, :2])
    for rows in (TABLE.astype("f2"), TABLE.astype("i4")):
        with pytest.raises(ValueError, match="a table must be native float32 or float64"):
            kernels.sum_powers(rows, 2.0)


def test_ids():
    kernels = backend.kernels
    with pytest.raises(TypeError, match="ids must be integers"):
        kernels.gather(TABLE, IDS.astype("f8"), OUT, "raise")
    with pytest.raises(ValueError, match="position_ids must have the shape of token_ids"):
        kernels.gather_add(TABLE, IDS, TABLE, np.zeros(3, np.int64), 0, OUT, "raise")
    for ids in (IDS.astype(np.int32), IDS.astype("f8"), np.zeros(4, np.int64)[::2]):
        with pytest.raises(ValueError, match="ids must be contiguous integers of 64 bits"):
            kernels.hash_rows(ids, 0, 5)
    with pytest.raises(ValueError, match="a table of at least 1 row is needed"):
        kernels.hash_rows(IDS, 0, 0)
    for row in (-2, 5):
        with pytest.raises(ValueError, match="a row outside the table"):
            kernels.dots(TABLE, np.array([0, row]), np.array([0, 1], np.int32), OUT)
    many = np.lib.stride_tricks.as_strided(IDS, (2**31,), (0,))
    with pytest.raises(ValueError, match="at most 2147483647 ids can be sorted at a time, got 2147483648"):
        kernels.sort_rows(many, 5)


def test_bags():
    kernels = backend.kernels
    for offsets in ([0, 2, 1], [-1, 2], [0, 3]):
        with pytest.raises(ValueError, match="offsets must not decrease, and lie within the ids"):
            kernels.embedding_bag(TABLE, IDS, np.array(offsets), "sum", None, -1, OUT[: len(offsets) - 1], "raise", None)
    packed, winners = np.zeros((5, 12), np.uint8), np.zeros((1, 4), np.int64)
    with pytest.raises(ValueError, match="winners are unsupported for packed tables"):
        kernels.embedding_bag(packed, IDS, np.array([0, 2]), "max", None, -1, OUT[:1], "raise", winners, Packing("fbgemm8"))
    out = np.zeros((1, 4), "f2")
    with pytest.raises(ValueError, match="winners are of maxima in the dtype of arithmetic"):
        kernels.embedding_bag(TABLE, IDS, np.array([0, 2]), "max", None, -1, out, "raise", winners)
    for offset in (0, 1):  # items of no bag are checked too
        with pytest.raises(IndexError, match="id 5 at position"):
            kernels.embedding_bag(
                TABLE,
                np.array([5, 0, 5])[offset:],
                np.array([1, 2 - offset]),
                "sum",
                None,
                -1,
                OUT[:1],
                "raise",
                None,
                None,
                True,
            )


def test_bags_of_many_tables():
    kernels = backend.kernels
    for tables in ([(TABLE, 4, None), (TABLE.astype("f8"), 4, None)], [(TABLE, 3, None)]):
        with pytest.raises(ValueError, match="columns and results of one dtype of arithmetic"):
            kernels.Features(tables)
    one, offsets = kernels.Features([(TABLE, 4, None)]), np.array([0, 1, 2])
    for features, out, mode in (
        (kernels.Features([]), OUT, "sum"),
        (one, OUT[0], "sum"),
        (one, OUT[:1], "sum"),
        (one, OUT, "max"),
    ):
        with pytest.raises(ValueError, match="shape of the result or mode does not match the features"):
            kernels.embedding_bags(features, IDS, offsets, mode, None, out, "raise")


def test_numbers_of_searches_losses_ngrams_and_text():
    kernels = backend.kernels
    with pytest.raises(ValueError, match="the codes of a row must fill whole vectors"):
        kernels.code_bounds(np.zeros((2, 16), "i1"), np.zeros((4, 2), "f4"), np.zeros(16, "i2"), (1.0, 0.0, 0.0, 0.0))
    for target in (-2, 4):
        with pytest.raises(ValueError, match="a target outside the row"):
            kernels.cross_entropy(TABLE, np.array([0, target, 0, 0, 0]), 1.0)
    heads = np.array([7, (2**64 - 1) // 7, 2**63], np.uint64)  # size, reciprocal, offset
    with pytest.raises(IndexError, match="row -9223372036854775805 at position"):
        kernels.ngram_rows(np.array([3], np.uint64), heads)
    for n_cols, at, n_spans in ((0, 0, 3), (2, -1, 3), (3, 0, 3), (2, 0, 2)):
        with pytest.raises(ValueError, match="rows must have the columns of the lines, and spans three"):
            kernels.parse_lines(b"a 1 2\n", at, n_cols, False, np.zeros((1, 2)), np.zeros((1, n_spans), np.int64))


def test_layers_that_nobody_has_made():
    for kind in (fe.Embedding, fe.TokenPositionEmbedding):
        with pytest.raises(AttributeError):
            kind.__new__(kind)([1])
    with pytest.raises(TypeError):
        fe.Embedding(3, 2)(1, 2)


def test_commits():
    commit = backend.kernels.Commit()
    for source in (OUT, TABLE.astype("f8")):
        with pytest.raises(ValueError, match="shape or dtype of the source does not match the target"):
            commit.add_copy(TABLE, source)
    commit.run()
    assert not TABLE.any()
    with pytest.raises(KeyError):
        commit.set_item({"a": 1}, "b", 2)
    with pytest.raises(TypeError, match="of a dict or a list"):
        commit.set_item((1, 2), 1, 3)


def test_a_commit_frees_what_it_replaced_behind_the_last_write():
    """Freeing runs Python code: here of weak references."""

    class Owner:
        pass

    class Named(dict):
        def __setitem__(self, *_):
            raise AssertionError("a commit goes past it")

    owner, named, listed = Owner(), Named(a=Owner()), [Owner()]
    owner.value = Owner()
    seen = []
    for replaced in (owner.value, named["a"], listed[0]):
        weakref.finalize(replaced, lambda: seen.append((owner.value, named["a"], listed[0])))
    del replaced
    commit = backend.kernels.Commit()
    commit.set_attribute(owner, "value", 1)
    commit.set_item(named, "a", 2)
    commit.set_item(listed, 0, 3)
    commit.run()
    assert seen == []
    del commit
    assert seen == [(1, 2, 3)] * 3


def test_no_memory_for_the_rows():
    """A terabyte of ids, by a stride of 0; nothing is added."""
    n = 2**40
    ids = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), (n,), (0,))
    values = np.lib.stride_tricks.as_strided(np.ones((1, 4), "f4"), (n, 4), (0, 4))
    table = np.zeros((5, 4), "f4")
    with pytest.raises(MemoryError, match=f"no memory for a copy of {n} ids"):
        backend.kernels.scatter_add(table, ids, values, "raise")
    assert not table.any()


def test_an_instruction_set_that_there_is_not():
    with pytest.raises(ImportError, match=r"FASTEMBED_ISA must be one of .*baseline, which this build .* got 'mmx'"):
        backend.kernels.select_isa("mmx")
