"""Layers that are saved and loaded: class, bits, options, names and counts stay; or an error."""

import json
import os
import pickle

import numpy as np
import pytest

import fastembed as fe
from fastembed import checkpoint

pytestmark = pytest.mark.on_reference

HASH = fe.NgramHash([3, 5, 9], [[7, 11], [13, 17]], vocab_size=100, fill=0)
TYPES = {"n_types": 2, "token_scale": 3.0, "norm": "rms", "norm_eps": 1e-4, "dropout": 0.5, "dropout_seed": 7, "bounds": "clip"}


def length(text):
    return len(text)


def layers():
    of_rows = {"max_norm": 1.5, "max_norm_in_place": False, "norm_type": np.inf, "scale_grad_by_freq": True, "bounds": "wrap"}
    yield fe.Embedding(5, 3, rng=0), None
    yield fe.Embedding(5, 3, rng=0, padding_idx=-1, dtype="float64", **of_rows), None
    yield fe.Embedding(5, 0, rng=0, dtype="float16", trainable_rows=[0, 3]), None
    yield fe.Embedding.from_pretrained(np.ones((5, 2)), freeze=True), None
    yield fe.EmbeddingBag(5, 3, rng=0, mode="sqrtn", include_last_offset=True, **of_rows), None
    yield fe.TokenPositionEmbedding(5, 4, 3, rng=0), None
    yield fe.TokenPositionEmbedding(5, 4, 3, rng=0, trainable_rows={"wpe": [1]}, **TYPES), None
    yield fe.HashEmbedding(5, 3, rng=0, seed=3, dropout=0.25, dropout_seed=5), None
    yield fe.HashEmbedding(5, 3, rng=0, hash=length), length
    yield fe.NgramEmbedding.random(HASH, 2, rng=0), HASH


def options_of(layer):
    return {name: getattr(layer, "_" + name) for name in layer._options}


@pytest.mark.parametrize("case", range(10))
def test_a_saved_layer_is_loaded_as_it_was(case, tmp_path):
    layer, hash = [*layers()][case]
    layer.count_lookups()
    ids = np.array([[1, 2, 2], [4, 0, 1]])
    layer(ids)
    if case % 2 and not isinstance(layer, fe.HashEmbedding):
        layer.vocabulary = fe.Vocabulary([f"ä{i}" for i in range(len(layer.parameters()[0]))], unk="ä1")
    path = tmp_path / "layer.safetensors"
    layer.save(path)
    again = fe.load(path, hash=hash)
    assert (type(again), repr(again), options_of(again)) == (type(layer), repr(layer), options_of(layer))
    assert (again.trainable, again.training, again.vocabulary) == (layer.trainable, True, layer.vocabulary)
    states = layer.state_dict(lookups=True), again.state_dict(lookups=True)
    assert {name: (value.dtype, value.tobytes()) for name, value in states[0].items()} == {
        name: (value.dtype, value.tobytes()) for name, value in states[1].items()
    }
    assert again._saved_rows().keys() == layer._saved_rows().keys()
    assert all(np.array_equal(mask, layer._saved_rows()[name]) for name, mask in again._saved_rows().items())
    x, y = layer(ids), again(ids)  # with dropout, the masks of the same call
    assert x.tobytes() == y.tobytes()
    again.save(tmp_path / "again.safetensors")
    layer.save(path)
    assert checkpoint.contents(tmp_path / "again.safetensors") == checkpoint.contents(path)


def test_pending_updates_are_in_the_file_and_the_loaded_layer_is_trained(tmp_path):
    layer = fe.Embedding(6, 2, rng=0, dtype="float64", trainable_rows=[0, 1, 2])
    optimizer = fe.optim.Adam(layer, lr=0.1)
    for ids in ([0], [1], [5]):
        layer.backward(np.ones((1, 2)), ids, optimizer=optimizer)
    layer.save(tmp_path / "a")
    again = fe.load(tmp_path / "a")
    assert again.weight.tobytes() == layer.weight.tobytes()
    again.backward(np.ones((2, 2)), [0, 5], optimizer=fe.optim.SGD(again, lr=1.0))
    assert (again.weight != layer.weight).any(axis=1).tolist() == [True, False, False, False, False, False]


def test_trainable_rows_are_loaded_as_they_were_given(tmp_path):
    """Numbers hold for a table that has grown, and a mask does not."""
    for rows, again in (([2, 1], [1, 2]), ([], []), ([False, True, True], [False, True, True])):
        layer = fe.Embedding(3, 2, trainable_rows=rows)
        layer.vocabulary = ["a", "b", "c"]
        layer.save(tmp_path / "layer")
        loaded = fe.load(tmp_path / "layer")
        assert loaded.trainable_rows.tolist() == again
        loaded.add_tokens(["d"])
        if rows[:1] != [False]:
            loaded.backward(np.ones((4, 2)), [0, 1, 2, 3], optimizer=fe.optim.SGD(loaded, lr=1.0))
            assert np.flatnonzero((loaded.weight[:3] != layer.weight).any(axis=1)).tolist() == again


def test_the_file_is_one_that_others_read(tmp_path):
    layer = fe.Embedding(3, 2, rng=0)
    layer.vocabulary = ["a", "b", "c"]
    path = tmp_path / "words.safetensors"
    layer.save(path)
    for other in (fe.load_vectors(path), fe.Embedding.open(path)):
        assert (other.weight.tobytes(), other.vocabulary) == (layer.weight.tobytes(), layer.vocabulary)
        other.close()
    with fe.Embedding.open(path, "r+") as mapped:  # a mapped table is saved from where it is
        mapped.set_rows([1], 7.0)
        mapped.save(tmp_path / "copy")
    assert fe.load(tmp_path / "copy")(1).tolist() == [7.0, 7.0]
    quantized = fe.QuantizedEmbedding.from_float(layer, bits=4)
    quantized.save(tmp_path / "quantized")
    again = fe.load(tmp_path / "quantized")
    assert (repr(again), again.packed.tobytes()) == (repr(quantized), quantized.packed.tobytes())


def test_a_hash_is_given_where_a_file_has_none(tmp_path):
    fe.HashEmbedding(5, 3, rng=0, hash=length).save(tmp_path / "hashed")
    with pytest.raises(TypeError, match=r"the HashEmbedding of .*hashed was made with a hash of its own.*give hash="):
        fe.load(tmp_path / "hashed")
    fe.Embedding(5, 3, rng=0).save(tmp_path / "plain")
    with pytest.raises(TypeError, match=r"the Embedding of .*plain takes no hash="):
        fe.load(tmp_path / "plain", hash=length)
    fe.NgramEmbedding.random(HASH, 2, rng=0).save(tmp_path / "ngram")
    for name, hash, what in (("ngram", length, "a NgramHash"), ("ngram", 3, "a NgramHash"), ("hashed", 3, "a function")):
        with pytest.raises(TypeError, match=f"^hash must be {what}, got "):
            fe.load(tmp_path / name, hash=hash)
    larger = fe.NgramHash([3, 5], [[97, 101]], vocab_size=100, fill=0)
    other = fe.NgramHash([3, 5, 10], [[7, 11], [13, 17]], vocab_size=100, fill=0)
    for wrong in (larger, other):
        with pytest.raises(ValueError, match=r"^hash must have the numbers of the one that .*ngram was saved with, got another"):
            fe.load(tmp_path / "ngram", hash=wrong)
    for mode in ("r", "r+"):
        with pytest.raises(ValueError, match=r"^hash must have the numbers of the one that .*ngram was saved with, got another"):
            fe.NgramEmbedding.open(tmp_path / "ngram", mode, hash=other)
        fe.NgramEmbedding.open(tmp_path / "ngram", mode, hash=HASH).close()
    changed(tmp_path / "ngram", hash_digest=...)  # a file of an earlier version
    assert fe.load(tmp_path / "ngram", hash=other).hash == other
    with pytest.raises(checkpoint.CheckpointError, match="the table must have the 198 rows that hash selects, got 48"):
        fe.load(tmp_path / "ngram", hash=larger)


def test_classes_that_are_not_known_are_not_saved(tmp_path):
    class Mine(fe.Embedding):
        pass

    with pytest.raises(TypeError, match=r"a layer of one of Embedding, .*, not .*test_classes.*: save its state_dict"):
        Mine(3, 2).save(tmp_path / "mine")
    assert not os.listdir(tmp_path)


def changed(path, tensors=(), **parts):
    """A file of save with other parts of its description, or tensors (None: without it)."""
    found, description = checkpoint.load(path)
    found = {name: value for name, value in {**found, **dict(tensors)}.items() if value is not None}
    checkpoint.save(path, found, {name: value for name, value in {**description, **parts}.items() if value is not ...})


CHANGES = [
    ({"kind": "Parameter"}, "holds a layer 'Parameter' that is not known"),
    ({"kind": ["Embedding"]}, "holds a layer .* that is not known"),
    ({"kind": ...}, "holds no layer of save"),
    ({"options": {"colour": 1}}, "does not hold a Embedding: Embedding has no option colour"),
    ({"options": {"padding_idx": 9}}, "does not hold a Embedding: padding_idx"),
    ({"options": {"padding_idx": "1"}}, "does not hold a Embedding: padding_idx"),
    ({"options": {"max_norm": "large"}}, "does not hold a Embedding: max_norm"),
    ({"options": None}, "does not hold a Embedding: options must be a mapping, got None"),
    ({"options": ...}, "does not hold a Embedding: options must be a mapping, got None"),
    ({"freeze": 3}, "does not hold a Embedding: freeze"),
    ({"unk": "z"}, "does not hold a Embedding: unk must be one of the 3 names, got 'z'"),
    ({"tensors": {"weight": None}}, "does not hold a Embedding: the tensor weight is missing"),
    ({"tensors": {"weight": np.zeros(3)}}, "does not hold a Embedding: array must have"),
    ({"tensors": {"bias": np.zeros(3)}}, "does not hold a Embedding: unexpected tensors bias"),
    ({"tensors": {"weight": np.zeros((2, 2))}}, "does not hold a Embedding: vocabulary must have a name for each of the 2 rows"),
    ({"tensors": {"weight.trainable_rows": np.zeros(3)}}, "must be a mask or row numbers, got an array of float64"),
    ({"tensors": {"weight.trainable_rows": np.zeros(2, bool)}}, "weight.trainable_rows must be a mask of shape"),
    ({"tensors": {"weight.trainable_rows": np.array([0, 3])}}, "weight.trainable_rows 3 at position 1 is out of range"),
    ({"tensors": {"weight.lookups": np.array([1, 2, -3])}}, "does not hold a Embedding: weight.lookups"),
    ({"tensors": {"weight.names": np.frombuffer(b"\xff\xfe\xfd", np.uint8)}}, "does not hold a Embedding: .*utf-8"),
    ({"tensors": {"weight.names": np.frombuffer(b"aab", np.uint8)}}, "does not hold a Embedding: names must be distinct"),
    ({"tensors": {"weight.names.ends": np.array([1, 2])}}, "does not hold a Embedding: ends of the names"),
]


@pytest.mark.parametrize(("parts", "message"), CHANGES, ids=range(len(CHANGES)))
def test_files_of_others_and_damaged_values_are_named(parts, message, tmp_path):
    layer = fe.Embedding(3, 2, rng=0)
    layer.vocabulary = ["a", "b", "c"]
    layer.save(tmp_path / "layer")
    assert fe.load(tmp_path / "layer")["b"].tobytes() == layer["b"].tobytes()
    changed(tmp_path / "layer", **parts)
    with pytest.raises(checkpoint.CheckpointError, match=message):
        fe.load(tmp_path / "layer")


def test_other_files_are_no_layers(tmp_path):
    fe.TokenPositionEmbedding(3, 2, 2, n_types=2, rng=0).save(tmp_path / "three")
    changed(tmp_path / "three", {"wpe": None})
    with pytest.raises(checkpoint.CheckpointError, match=r"does not hold a TokenPositionEmbedding"):
        fe.load(tmp_path / "three")
    (tmp_path / "pickle").write_bytes(pickle.dumps(fe.Embedding(3, 2)))
    with pytest.raises(checkpoint.CheckpointError, match="is not a safetensors file"):
        fe.load(tmp_path / "pickle")
    for description in (None, [], "text", 3):
        checkpoint.save(tmp_path / "plain", {"weight": np.zeros((3, 2))}, description)
        with pytest.raises(checkpoint.CheckpointError, match=r"plain holds no layer of save: .* reads what save_state wrote"):
            fe.load(tmp_path / "plain")
    with pytest.raises(FileNotFoundError):
        fe.load(tmp_path / "absent")


def test_a_changed_byte_is_found_and_a_failed_save_leaves_the_old_file(tmp_path):
    layer, path = fe.Embedding(3, 2, rng=0), tmp_path / "layer"
    layer.save(path)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(checkpoint.CheckpointError):
            fe.load(path)
    path.write_bytes(data)
    layer.vocabulary = ["a", "b", "\ud800"]
    with pytest.raises(ValueError, match="holds a surrogate"):
        layer.save(path)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (data, ["layer"])
    assert json.loads(json.dumps(checkpoint.contents(path)[1]))["kind"] == "Embedding"


def test_a_table_whose_name_is_no_text_is_not_saved(tmp_path):
    layer = fe.EmbeddingCollection({"user": [[1.0]], "\ud800": [[2.0]]})
    with pytest.raises(ValueError, match=r"a tensor cannot be called '\\ud800\.weight', which holds a surrogate"):
        layer.save(tmp_path / "layer")
    assert os.listdir(tmp_path) == []


def test_a_layer_of_a_file_without_a_checksum_is_refused(tmp_path):
    packed, path = fe.QuantizedEmbedding.from_float(np.eye(4)), tmp_path / "layer"
    for layer, load in ((fe.Embedding(3, 2, rng=0), fe.load), (packed, fe.load), (packed, fe.QuantizedEmbedding.load)):
        layer.save(path)
        path.write_bytes(path.read_bytes().replace(b"fastembed_crc32", b"fastembed_crc33"))
        with pytest.raises(checkpoint.CheckpointError, match=r"layer is not .*, or is damaged: its fastembed_crc32 is missing"):
            load(path)
        assert checkpoint.load(path)[0]


def test_a_layer_whose_file_was_trained_and_resized_in_place_is_loaded(tmp_path):
    path = tmp_path / "layer"
    fe.Embedding(3, 2, rng=0).save(path)
    for n_rows in (3, 5, 4):
        with fe.Embedding.open(path, "r+") as layer:
            layer.set_rows([1], float(n_rows))
            layer.resize(n_rows)
        assert (fe.load(path).num_embeddings, fe.load(path)(1)[0]) == (n_rows, n_rows)


def collection():
    """Tables of floats and of bits, with names that are parts of others, options and counts."""
    packed = fe.QuantizedEmbedding.from_float(np.arange(6.0).reshape(2, 3))
    tables = {"a": np.ones((3, 2), np.float32), "a.weight": np.full((2, 1), 2.0, np.float32), "b": packed, "c": np.eye(2)}
    layer = fe.EmbeddingCollection(tables, {"x": "a", "y": "b", "z": "a", "w": "a.weight"}, mode="mean", bounds="clip")
    layer.tables["a"].vocabulary = fe.Vocabulary(["ä", "b", "c"], unk="b")
    layer.tables["a"].trainable_rows = [0, 2]
    layer.tables["a.weight"].trainable = False
    layer.tables["a"].count_lookups()
    return layer


def test_a_collection_is_loaded_as_it_was(tmp_path):
    layer, values = collection(), {"x": [[0, 9]], "y": [[1, 1]], "z": [[2, 2]], "w": [[0, 1]]}
    optimizer = fe.optim.Adam(layer, lr=0.1)
    for _ in range(2):
        layer.tables["a"].backward([[1.0, 2.0]], [[0, 1]], optimizer=optimizer)
    x = layer(values)
    layer.save(tmp_path / "model")
    again = fe.load(tmp_path / "model")
    assert (repr(again), again.features, again.mode) == (repr(layer), layer.features, layer.mode)
    states = [{name: (v.dtype, v.tobytes()) for name, v in made.state_dict(lookups=True).items()} for made in (layer, again)]
    assert states[0] == states[1]
    assert "a.weight.lookups" in states[0]
    for name in ("a", "a.weight", "c"):
        before, after = layer.tables[name], again.tables[name]
        assert (after.trainable, after.vocabulary, repr(after)) == (before.trainable, before.vocabulary, repr(before))
        assert after._saved_rows().keys() == before._saved_rows().keys()
    assert again(values).tobytes() == x.tobytes()
    again.save(tmp_path / "again")
    layer.save(tmp_path / "model")
    assert checkpoint.contents(tmp_path / "again") == checkpoint.contents(tmp_path / "model")
    again.tables["a"].add_tokens(["d"])  # a call sees the resized table
    assert again({"x": [[3]], "y": [[1]], "z": [[2]], "w": [[0]]}).shape == (1, 8)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"tables": None}, "tables must be a mapping, got None"),
        ({"tables": {"a": {}}}, "unexpected tensor '[bc]."),
        ({"options": {"features": {}, "mode": "mean", "bounds": "clip"}}, "features must be a mapping with at least one name"),
        ({"options": {"features": {"x": "q"}, "mode": "mean", "bounds": "clip"}}, "feature x must be of one of"),
        ({"options": {"features": {"x": "a"}, "mode": "max", "bounds": "clip"}}, "mode must be"),
        ({"options": {"features": {"x": "a"}, "bounds": "clip"}}, "mode"),
        ({"options": {"features": {"x": "a"}, "mode": "sum", "bounds": "clip", "colour": 1}}, "colour"),
        ({"tensors": {"b.packed": None}}, "the tensor weight is missing"),
        ({"tensors": {"b.packed": np.zeros((2, 4), np.uint8)}}, "packed must have shape"),
        ({"tensors": {"a.weight.colour": np.zeros(3)}}, "unexpected tensors .*weight.colour"),
    ],
)
def test_files_that_hold_no_collection(parts, message, tmp_path):
    collection().save(tmp_path / "model")
    changed(tmp_path / "model", **parts)
    with pytest.raises(checkpoint.CheckpointError, match=f"does not hold a EmbeddingCollection: .*{message}"):
        fe.load(tmp_path / "model")


def test_a_packed_table_is_loaded_by_load_too(tmp_path):
    rows = np.arange(10, dtype=np.uint8).reshape(2, 5)
    table = fe.PackedTable(rows, 4, format="float8_e4m3fn", dtype="float16")
    table.save(tmp_path / "table")
    for again in (fe.load(tmp_path / "table"), fe.PackedTable.load(tmp_path / "table")):
        assert (type(again), repr(again), again.packed.tobytes()) == (fe.PackedTable, repr(table), rows.tobytes())
    changed(tmp_path / "table", format="q9")
    with pytest.raises(checkpoint.CheckpointError, match="does not hold a PackedTable: format must be"):
        fe.load(tmp_path / "table")
    changed(tmp_path / "table", tensors={"rows": None, "other": rows})
    with pytest.raises(checkpoint.CheckpointError, match=r"the tensors must be rows, and scales or not, got other"):
        fe.load(tmp_path / "table")
