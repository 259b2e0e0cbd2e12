"""Operators in place on the tables of layers; an attribute cannot become another array."""

import numpy as np
import pytest
from common import same_bits

import fastembed as fe

pytestmark = pytest.mark.on_reference


def holders():
    """(an object, the name of its array)"""
    emb = fe.TokenPositionEmbedding(5, 5, 3, n_types=5, dtype="float64", rng=0)
    layer, bag, hashed = (kind(5, 3, dtype="float64", rng=0) for kind in (fe.Embedding, fe.EmbeddingBag, fe.HashEmbedding))
    yield from ((emb, "wte"), (emb, "wpe"), (emb, "wtype"), (layer, "weight"), (bag, "weight"), (hashed, "weight"))
    yield fe.Parameter(np.ones((5, 3))), "data"
    yield fe.Parameter(np.array(1.0)), "data"


def test_operators_in_place():
    for holder, name in holders():
        array = getattr(holder, name)
        before = array.copy()
        exec(f"holder.{name} -= 0.5\nholder.{name} *= 2\nholder.{name} **= 2", {"holder": holder})
        assert same_bits(array, ((before - 0.5) * 2) ** 2)
        assert getattr(holder, name) is array
        setattr(holder, name, array[...])  # another view of the same memory
        assert getattr(holder, name) is array
    layer = fe.Embedding(5, 3, dtype="float64", rng=0)
    layer.weight @= np.eye(3)
    packed = fe.QuantizedEmbedding.from_float(np.eye(3))
    before = packed.packed.copy()
    packed.packed ^= 1
    assert (packed.packed == before ^ 1).all()
    rows, scales = np.zeros((2, 4), np.uint8), np.full((2, 1), 127, np.uint8)
    table = fe.PackedTable(rows, 4, format="float8_e4m3fn", scales=scales)
    table.packed |= 0x38  # 1.0
    table.scales += np.uint8(1)
    assert table([1]).tolist() == [[2.0] * 4]
    hashed = fe.NgramEmbedding(fe.NgramHash([3, 5], [[2, 3]], vocab_size=9, fill=0), np.ones((5, 2)))
    hashed.weight *= 2
    assert hashed([1]).tolist() == [[2.0] * 4]
    group = fe.EmbeddingCollection({"a": np.ones((2, 1))})
    group.tables["a"].weight += 1
    assert group([0], lengths=[1]).tolist() == [[2.0]]


def test_an_update_that_is_pending_comes_first():
    layers = [fe.Embedding(5, 3, dtype="float64", rng=0) for _ in range(2)]
    for layer in layers:
        optimizer = fe.optim.Adam(layer, lr=0.1)
        layer.backward(np.ones((1, 3)), [1], optimizer=optimizer)
        layer.backward(np.ones((1, 3)), [2], optimizer=optimizer)
    layers[0].flush()
    layers[0].tables["weight"][...] += 1
    layers[1].weight += 1
    assert same_bits(layers[0].weight, layers[1].weight)


def test_another_array_is_refused():
    for holder, name in holders():
        array = getattr(holder, name)
        before = array.copy()
        for other in (before, array * 2, array.tolist(), None, array.reshape(-1), array.T, array.astype("f4"), "x", array[:2]
                      if array.ndim else 1):  # fmt: skip
            if other is array or (isinstance(other, np.ndarray) and other.shape == () and np.shares_memory(other, array)):
                continue
            with pytest.raises(AttributeError, match=rf"{name} stays the array .* replaced by {name}\[\.\.\.\] = values"):
                setattr(holder, name, other)
        assert getattr(holder, name) is array
        assert same_bits(array, before)
    emb = fe.TokenPositionEmbedding(5, 5, 3, rng=0)
    emb.wtype = None  # as it is
    with pytest.raises(AttributeError, match="wtype stays"):
        emb.wtype = emb.wte
    packed = fe.QuantizedEmbedding.from_float(np.eye(3))
    table = fe.PackedTable(np.zeros((2, 4), np.uint8), 4, format="float8_e4m3fn", scales=np.zeros((2, 1), np.uint8))
    for holder, name in ((packed, "packed"), (table, "packed"), (table, "scales")):
        with pytest.raises(AttributeError, match=f"{name} stays"):
            setattr(holder, name, getattr(holder, name).copy())
    hash = fe.NgramHash([3, 5], [[2, 3]], vocab_size=9, fill=0)
    with pytest.raises(ValueError, match="read-only"):  # what kernels go by
        hash.heads[...] = 1


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_table_that_cannot_be_written_refuses_before(tmp_path, mode):
    table = np.arange(15.0).reshape(5, 3)
    np.save(tmp_path / "table.npy", table)
    with fe.Embedding.open(tmp_path / "table.npy", mode) as layer:
        with pytest.raises(ValueError, match="read-only"):
            layer.weight -= 1
        assert same_bits(layer([0, 1, 2, 3, 4]), table)
    assert same_bits(np.load(tmp_path / "table.npy"), table)
    table.flags.writeable = False
    layer = fe.Embedding.from_pretrained(table, freeze=True)
    with pytest.raises(ValueError, match="read-only"):
        layer.weight += 1
