"""The thinc adapter beside thinc: Ops, layers, entry points, training, thinc's own tests."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("thinc")

import thinc.api
import thinc_draws
from thinc.api import Adam, Softmax, chain, get_ops, registry

from fastembed.adapters.thinc import Embed, FastEmbedOps, HashEmbed

HERE = Path(__file__).parent
OPS = FastEmbedOps()
PAIRS = [(Embed, thinc.api.Embed), (HashEmbed, thinc.api.HashEmbed)]
each_pair = pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=["Embed", "HashEmbed"])


def ones(*shape):
    return np.ones(shape, np.float32)


def test_entry_points():
    assert type(get_ops("fastembed")) is FastEmbedOps
    assert type(get_ops("cpu")) is thinc.api.NumpyOps
    assert registry.get("layers", "fastembed.Embed.v1") is Embed
    assert registry.get("layers", "fastembed.HashEmbed.v1") is HashEmbed


@pytest.mark.parametrize("number", range(0, 300, 20))
def test_draws(number):
    thinc_draws.run(number + 20, 1, number)


@pytest.mark.parametrize("dtype", thinc_draws.INTEGERS)
@pytest.mark.parametrize("to", [np.float32, np.float64, np.float16])
def test_an_id_means_the_same_in_every_dtype(dtype, to):
    table = np.zeros((3, 2), to)
    OPS.scatter_add(table, np.array([2, 0, 2], dtype), np.ones((3, 2), to))
    if np.dtype(dtype).kind == "i":
        OPS.scatter_add(table, np.array([-1, -3], dtype), np.ones((2, 2), to))
        OPS.scatter_add(table, np.array([0, 2], dtype), -np.ones((2, 2), to))
    np.testing.assert_array_equal(table[:, 0], [1, 0, 2])
    assert OPS.gather_add(table, np.array([[0, 2]], dtype)).tolist() == [[3, 3]]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("bad", [3, -4, 2**31 - 1, -(2**31)])
def test_an_id_out_of_range_is_named_and_nothing_written(dtype, bad):
    table, ids = ones(3, 2), np.array([0, bad, 1], dtype)
    with pytest.raises(IndexError, match=rf"id {bad} at position \(1,\) is out of range for a table of 3 rows"):
        OPS.scatter_add(table, ids, ones(3, 2))
    with pytest.raises(IndexError, match=f"id {bad} at position"):
        OPS.gather_add(table, ids[:, None])
    with pytest.raises(IndexError, match=f"id {bad} at position"):
        Embed(2, 3).initialize().predict(ids)
    np.testing.assert_array_equal(table, ones(3, 2))


def test_scatter_add_takes_what_numpy_takes():
    for table, index in [
        (np.zeros(4), np.array([1, 1])),
        (np.zeros((4, 2, 2)), np.array([3, -1])),
        (np.zeros((4, 2)), np.array([True, False, True, False])),
        (np.zeros((4, 2)), ([0, 1], [1, 1])),
        (np.zeros((4, 2)), slice(1, 3)),
        (np.zeros((4, 2), np.int64), np.array([1])),
        (np.zeros((2, 4)).T, np.array([1, 1])),
    ]:
        right = table.copy()
        np.add.at(right, index, 2)
        OPS.scatter_add(table, index, 2)
        np.testing.assert_array_equal(table, right)


@pytest.mark.parametrize("wrong", range(4))
def test_adam_refuses_what_it_cannot_write(wrong):
    arrays = [ones(3) for _ in range(4)]
    arrays[wrong].flags.writeable = False
    with pytest.raises(ValueError, match=r"must be writable and have the shape of weights, \(3,\)"):
        OPS.adam(*arrays, 0.9, 0.999, 1e-8, 1e-3)
    assert all((array == 1).all() for array in arrays)


@each_pair
def test_bytes_and_names_are_thincs(ours, theirs):
    for options in ({}, {"column": 1, "dropout": 0.25}):
        model, right = ours(4, 9, **options), theirs(4, 9, **options).initialize()
        model.from_bytes(right.to_bytes())
        nodes = list(zip(model.walk(), right.walk(), strict=True))
        assert [node.param_names for node, _ in nodes] == [node.param_names for _, node in nodes]
        assert [node.dim_names for node, _ in nodes] == [node.dim_names for _, node in nodes]
        assert all(node.attrs == other.attrs for node, other in nodes)
        assert theirs(4, 9, **options).from_bytes(model.to_bytes()).to_bytes() == right.to_bytes()


@each_pair
def test_gradients_accumulate_in_place(ours, theirs):
    model, right = ours(4, 9, initializer=initializer), theirs(4, 9, initializer=initializer)
    for layer in (model, right):
        layer.attrs["seed"] = 3
        layer.initialize()
        for ids in ([1, 2, 1], [8]):
            _, backprop = layer.begin_update(np.array(ids))
            backprop(ones(len(ids), 4))
    np.testing.assert_array_equal(model.get_grad("E"), right.get_grad("E"))
    gradient = model.get_grad("E")
    model.begin_update(np.array([1]))[1](ones(1, 4))
    assert model.get_grad("E") is gradient


def initializer(ops, shape):
    return np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)


def test_backprop_leaves_its_argument():
    x, backprop = Embed(4, 9, dropout=0.5).initialize().begin_update(np.array([1, 2]))
    dout = ones(*x.shape)
    backprop(dout)
    assert (dout == 1).all()


def test_a_table_elsewhere_is_a_clear_error():
    model = Embed(2, 3)
    model.set_param("E", [[0.0, 0.0]] * 3)
    with pytest.raises(TypeError, match=r"embed of fastembed is for the CPU: its table must be a numpy.ndarray, got list"):
        model.predict(np.array([1]))


@each_pair
def test_training_gives_thincs_numbers(ours, theirs):
    losses = []
    for kind in (ours, theirs):
        np.random.seed(0)
        options = {"seed": 5} if kind in PAIRS[1] else {}
        model = chain(kind(8, 30, **options), Softmax(3)).initialize(X=np.arange(4), Y=ones(4, 3))
        optimizer, ids = Adam(0.05), np.random.randint(0, 30, 200)
        for _ in range(15):
            guesses, backprop = model.begin_update(ids)
            backprop(guesses - np.eye(3, dtype=np.float32)[ids % 3])
            model.finish_update(optimizer)
        losses.append(-np.log(guesses[np.arange(200), ids % 3]).mean())
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert losses[0] < 0.1


@pytest.mark.filterwarnings("ignore")  # of spaCy and what it imports
def test_a_spacy_tagger_trains():
    spacy = pytest.importorskip("spacy")
    from spacy.training import Example

    nlp = spacy.util.load_model_from_config(spacy.util.load_config(HERE / "spacy_tagger.cfg"), auto_fill=True)
    texts = {"the cat sat": "D N V", "a dog ran": "D N V", "the dog saw a cat": "D N V D N"}
    examples = [Example.from_dict(nlp.make_doc(text), {"tags": tags.split()}) for text, tags in texts.items()]
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(30):
        nlp.update(examples, sgd=optimizer, drop=0.1)
    embeddings = [node for node in nlp.get_pipe("tok2vec").model.walk() if node.name == "hashembed"]
    assert [node.get_param("E").shape for node in embeddings] == [(500, 16), (200, 16), (200, 16)]
    assert [token.tag_ for token in nlp("a cat ran")] == ["D", "N", "V"]
    loaded = spacy.util.load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert [token.tag_ for token in loaded("a cat ran")] == ["D", "N", "V"]


# thinc's own tests that cannot pass here, and why.
NOT_RUN = {
    "test_get_ops": "asks the registry for thinc's own Ops, and compares it with the class that stands in for it",
    "test_compare_activations_to_torch": "fails in thinc 8.3.11 by itself, with PyTorch 2.13 (TypeError)",
}
EMBEDDINGS = "gather or scatter or adam or ngrams or hash or mbed or uniqued"


@pytest.mark.parametrize("chosen", [EMBEDDINGS, pytest.param("test", marks=pytest.mark.long)], ids=["embeddings", "all"])
def test_thincs_own_tests(chosen, tmp_path):
    wanted = " and ".join([f"({chosen})", *(f"not {name}" for name in NOT_RUN)])
    modules = ["backends.test_ops", *(f"layers.test_{name}" for name in ("hash_embed", "uniqued", "layers_api", "basic_tagger"))]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "thinc_upstream", "-p", "no:cacheprovider", "-k", wanted, "--pyargs"]
        + [f"thinc.tests.{module}" for module in modules],
        env=os.environ | {"PYTHONPATH": str(HERE)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout
