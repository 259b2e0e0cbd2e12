"""Rows by their names: queries, single rows, what is left out of a result, biases of scores."""

import copy
import pickle

import numpy as np
import pytest
from common import assert_same, outcome

import fastembed as fe
from fastembed import checkpoint, reference

pytestmark = pytest.mark.on_reference

NAMES = [f"w{i}" for i in range(30)]


def layer_of(dtype="float32"):
    layer = fe.Embedding(30, 5, rng=0, dtype=dtype)
    layer.vocabulary = NAMES
    return layer


def test_names_are_queries():
    layer = layer_of()
    for names, ids in (("w3", 3), (["w3", "w0"], [3, 0]), ([["w1"], ["w2"]], [[1], [2]]), (np.array(["w4"]), [4])):
        by_name, by_id = layer.nearest(names, 4), layer.nearest(ids, 4)
        assert by_name.ids.tolist() == by_id.ids.tolist()
        assert by_name.scores.tolist() == by_id.scores.tolist()
        assert by_name.names == by_id.names == layer.vocabulary.names(by_id.ids)
    found = layer.analogy("w1", "w2", "w3", 2)
    assert found.ids.tolist() == layer.analogy(1, 2, 3, 2).ids.tolist()
    assert found.names == layer.vocabulary[found.ids]
    ids, scores = found
    assert (ids is found.ids, scores is found.scores) == (True, True)
    assert layer.nearest(layer["w3"], 1).names == ["w3"]
    assert "names=['w3']" in repr(layer.nearest("w3", 1))
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert again.names == found.names
    with pytest.raises(KeyError, match="name 'x' at position"):
        layer.nearest("x", 1)
    with pytest.raises(TypeError, match="queries must be all names, or all numbers"):
        layer.nearest(["w1", 2], 1)


def test_rows_by_name():
    layer = layer_of("float64")
    assert layer["w7"].tolist() == layer[7].tolist() == layer.weight[7].tolist()
    assert layer[["w1", "w0"]].tolist() == layer.weight[[1, 0]].tolist()
    row = layer["w7"]
    row[:] = 0
    assert layer.weight[7].any()
    with pytest.raises(IndexError, match="id 30"):
        layer[30]
    optimizer = fe.optim.Adam(layer)
    for ids in ([7], [8]):
        layer.backward(np.ones((1, 5)), ids, optimizer=optimizer)
    assert layer["w7"].tolist() == layer.weight[7].tolist()


def test_tables_without_names():
    layer = fe.TokenPositionEmbedding(30, 4, 5, rng=0)
    assert layer.nearest(0, 1).names is None
    with pytest.raises(TypeError, match="queries are names, and the rows of the table have none: set vocabulary"):
        layer.nearest("w1", 1)
    layer.vocabulary = NAMES
    assert layer.nearest("w1", 1).names == ["w1"]
    assert layer.nearest(1, 1, table="wpe").names is None
    with pytest.raises(TypeError, match="queries are names, and the rows of the table have none"):
        layer.nearest("w1", 1, table="wpe")


def test_a_small_table_has_fewer_than_ten_neighbours():
    layer = fe.Embedding(4, 5, rng=0)
    assert layer.nearest(0).ids.shape == layer.nearest(0, index=layer.build_index()).ids.shape == (4,)
    assert layer.nearest([0, 1], exclude_queries=True).ids.shape == (2, 3)
    assert layer.nearest([0, 1]).ids.tolist() == reference.nearest(layer.weight.tolist(), [0, 1], dtype="float32")[0]
    assert layer_of().nearest(0).ids.shape == (10,)
    assert fe.Embedding(0, 5).nearest(np.ones(5)).ids.shape == (0,)


def test_names_are_in_a_layer():
    layer = layer_of()
    assert ("w3" in layer, "x" in layer, "w3" in fe.Embedding(3, 2)) == (True, False, False)
    with pytest.raises(TypeError, match="a name must be a string, got 3"):
        3 in layer  # noqa: B015


def made_tables(tmp_path):
    """A quantised, a packed and a disk table with the rows of a layer, and names."""
    layer = layer_of("float16")
    layer.save_vectors(tmp_path / "rows.npy")
    packed = fe.PackedTable(layer.weight, 5, format="float16")
    packed.vocabulary = layer.vocabulary
    return layer, (fe.QuantizedEmbedding.from_float(layer), packed, fe.DiskTable(tmp_path / "rows.npy"))


def test_names_of_tables_for_look_ups(tmp_path):
    layer, tables = made_tables(tmp_path)
    for table in tables:
        assert table.vocabulary == layer.vocabulary
        assert np.allclose(table["w7"], layer["w7"], atol=0.02)
        assert (table[["w1", "w2"]].shape, table[[[3]]].shape, "w1" in table, "x" in table) == ((2, 5), (1, 1, 5), True, False)
        found = table.nearest("w3", 3, exclude=["w1"])
        assert found.ids.tolist() == table.nearest(3, 3, exclude=[1]).ids.tolist()
        assert found.names == layer.vocabulary.names(found.ids)
        assert table.analogy("w1", "w2", "w3").names == layer.vocabulary.names(table.analogy(1, 2, 3).ids)
        with pytest.raises(KeyError, match="name 'x' at position"):
            table["x"]
        with pytest.raises(ValueError, match="vocabulary must have a name for each of the 30 rows, got 1"):
            table.vocabulary = ["a"]
        table.vocabulary = None
        assert table.nearest(3, 1).names is None
        with pytest.raises(TypeError, match="queries are names, and the rows of the table have none"):
            table.nearest("w3", 1)


def test_names_of_tables_in_files(tmp_path):
    layer, (quantized, packed, disk) = made_tables(tmp_path)
    disk.close()
    quantized.vocabulary = fe.Vocabulary(NAMES, unk="w9")
    for table in (quantized, packed):
        table.save(tmp_path / "saved")
        for again in (fe.load(tmp_path / "saved"), type(table).load(tmp_path / "saved"), pickle.loads(pickle.dumps(table))):
            assert again.vocabulary == table.vocabulary
            assert again.nearest("w3", 2).names == table.nearest("w3", 2).names
    group = fe.EmbeddingCollection({"words": quantized})
    group.save(tmp_path / "group")
    assert fe.load(tmp_path / "group").tables["words"].vocabulary == quantized.vocabulary
    layer.save(tmp_path / "layer")
    with fe.DiskTable(tmp_path / "layer") as table:
        assert table.vocabulary == layer.vocabulary
    checkpoint.save(tmp_path / "saved", {"packed": quantized.packed, "packed.names": np.zeros(3, np.uint8)}, {
        "kind": "QuantizedEmbedding", "embedding_dim": 5, "bits": 8,
    })  # fmt: skip
    assert fe.load(tmp_path / "saved").vocabulary is None
    ends = {"packed.names": np.zeros(3, np.uint8), "packed.names.ends": np.array([3])}
    checkpoint.save(tmp_path / "saved", {"packed": quantized.packed, **ends}, {
        "kind": "QuantizedEmbedding", "embedding_dim": 5, "bits": 8,
    })  # fmt: skip
    with pytest.raises(checkpoint.CheckpointError, match="does not hold a QuantizedEmbedding: vocabulary must have a name"):
        fe.load(tmp_path / "saved")


def test_excluded_rows():
    layer = layer_of()
    all_rows = layer.nearest(0, 30).ids.tolist()
    assert layer.nearest(0, 5, exclude=all_rows[:3]).ids.tolist() == all_rows[3:8]
    assert layer.nearest("w0", 5, exclude=[NAMES[all_rows[1]]]).ids.tolist() == [all_rows[0], *all_rows[2:6]]
    assert layer.nearest(0, 5, exclude=all_rows[1], exclude_queries=True).ids.tolist() == all_rows[2:7]
    found = layer.nearest([0, 0], 2, exclude=[[all_rows[0]], [all_rows[1]]]).ids.tolist()
    assert found == [all_rows[1:3], [all_rows[0], all_rows[2]]]
    assert layer.nearest(layer["w0"], 2, exclude=[0]).ids.tolist() == all_rows[1:3]
    like = outcome(reference.nearest, layer.weight.tolist(), [0, 3], 4, exclude=[5, 5, 2], dtype="float32")
    for got in (layer.nearest([0, 3], 4, exclude=[5, 5, 2]), layer.nearest([0, 3], 4, exclude=[5, 2], index=layer.build_index())):
        assert_same(("returned", got.scores), ("returned", like[1][1]), float, (2, 4))
        assert got.ids.tolist() == like[1][0]
    of_each = [[all_rows[0]], all_rows[:3]]  # lists of any lengths
    assert layer.nearest([0, 0], 2, exclude=of_each).ids.tolist() == [all_rows[1:3], all_rows[3:5]]
    assert layer.nearest([0, 0], 2, exclude=[layer.vocabulary.names(ids) for ids in of_each]).ids[1].tolist() == all_rows[3:5]
    assert layer.nearest(layer[[0, 0]], 2, "l2", exclude=[[], [0]]).ids[:, 0].tolist() == [0, layer.nearest(0, 2, "l2").ids[1]]
    assert layer.nearest([0, 0], exclude=[]).ids.shape == (2, 10)
    assert layer.nearest([0, 0], exclude=[[0] * 5, all_rows[:25]]).ids.shape == (2, 5)  # as many as are left
    with pytest.raises(ValueError, match=r"exclude of 2 lists must have one for each query, and queries are of shape \(3,\)"):
        layer.nearest([0, 0, 0], 1, exclude=[[1], [2, 3]])
    with pytest.raises(KeyError, match=r"name 'x' at position \(1, 0\)"):
        layer.nearest([0, 0], 1, exclude=[["w1", "w2"], ["x"]])
    with pytest.raises(ValueError, match=r"exclude must have shape \(n,\), got \(1, 2\)"):
        layer.nearest(0, 1, exclude=[[1, 2]])
    with pytest.raises(IndexError, match=r"exclude id 30 at position \(0,\) is out of range"):
        layer.nearest(0, 1, exclude=[30])
    with pytest.raises(ValueError, match=r"exclude must have shape \(n,\) or \(2, n\), got \(3, 1\)"):
        layer.nearest([0, 1], 1, exclude=[[1], [2], [3]])
    with pytest.raises(ValueError, match="k must be from 0 to 28 for a table of 30 rows"):
        layer.nearest(0, 29, exclude=[1, 2, 2])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_biases(dtype):
    layer, bias = layer_of(dtype), np.random.default_rng(1).normal(size=30)
    for queries in ([0, 3], np.ones((6, 5))):
        arguments = queries if isinstance(queries, list) else queries.tolist()
        ids, scores = reference.nearest(layer.weight.tolist(), arguments, 4, "dot", bias=bias.tolist(), dtype=dtype)
        found = layer.nearest(queries, 4, "dot", bias=bias)
        assert found.ids.tolist() == ids
        assert found.scores.tolist() == scores
    for wrong, text in (
        ({"metric": "cosine"}, "bias requires the metric \"dot\", got 'cosine'"),
        ({"bias": bias[:3]}, r"bias must have shape \(30,\), got \(3,\)"),
        ({"bias": np.full(30, np.nan)}, "bias at position .* must be finite"),
        ({"index": layer.build_index()}, "bias and index exclude each other"),
    ):
        with pytest.raises(ValueError, match=text):
            layer.nearest(0, 1, **{"metric": "dot", "bias": bias} | wrong)


def test_a_row_for_unknown_names():
    vocabulary = fe.Vocabulary(["a", "<unk>"], unk="<unk>")
    assert vocabulary.ids("x") == 1
    assert vocabulary.ids([["a"], ["x"]]).tolist() == [[0], [1]]
    assert (vocabulary.unk, vocabulary[1], vocabulary[[[0]]]) == ("<unk>", "<unk>", [["a"]])
    assert repr(vocabulary) == "Vocabulary(2 names, unk='<unk>')"
    assert vocabulary != fe.Vocabulary(["a", "<unk>"])
    with pytest.raises(TypeError, match=r"names must be strings, got 1 at position \(0,\)"):
        vocabulary.ids([1])
    for unk in ("b", 3, []):
        with pytest.raises(ValueError, match="unk must be one of the 1 names"):
            fe.Vocabulary(["a"], unk=unk)
    layer = fe.Embedding(2, 3, rng=0)
    layer.vocabulary = vocabulary
    layer.add_tokens("b")
    assert layer.vocabulary.unk == "<unk>"
    assert layer["nothing"].tolist() == layer.weight[1].tolist()
    with pytest.raises(ValueError, match="unk must be one of the 1 names"):
        layer.resize(1)
    assert len(layer.weight) == 3
    assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary
