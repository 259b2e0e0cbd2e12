"""Layers have the attributes that their classes declare: what is misspelt is an error."""

import copy
import pickle

import numpy as np
import pytest

import fastembed as fe

pytestmark = pytest.mark.on_reference

PACKED = np.zeros((3, 2), np.float16)
HASH = fe.NgramHash([3, 5], [[7, 11]], vocab_size=9, fill=0)
MADE = {
    "Embedding": lambda: fe.Embedding(3, 2),
    "EmbeddingBag": lambda: fe.EmbeddingBag(3, 2),
    "TokenPositionEmbedding": lambda: fe.TokenPositionEmbedding(3, 2, 2),
    "HashEmbedding": lambda: fe.HashEmbedding(3, 2),
    "NgramEmbedding": lambda: fe.NgramEmbedding(HASH, np.ones((18, 4))),
    "PackedNgramEmbedding": lambda: fe.PackedNgramEmbedding(HASH, fe.Embedding(18, 4)),
    "EmbeddingCollection": lambda: fe.EmbeddingCollection({"user": (3, 2)}),
    "QuantizedEmbedding": lambda: fe.QuantizedEmbedding.from_float(np.ones((3, 4), np.float32)),
    "PackedTable": lambda: fe.PackedTable(PACKED, 2, format="float16"),
    "SplitTable": lambda: fe.SplitTable([fe.PackedTable(PACKED, 2, format="float16")]),
    "SentenceEncoder": lambda: fe.SentenceEncoder(str.split, np.ones((3, 2))),
    "Parameter": lambda: fe.Parameter(np.ones(2)),
}


@pytest.mark.parametrize("kind", MADE)
def test_attributes_that_a_layer_lacks_cannot_be_set(kind):
    made = MADE[kind]()
    for name in ("trainable_row", "traning", "padding_idxx", "weights"):
        with pytest.raises(AttributeError, match=f"^a {kind} has no attribute {name}; (what can be set|it has none)") as caught:
            setattr(made, name, [0])
        assert caught.value.name == name
        assert caught.value.obj is made
        assert not hasattr(made, name)


def test_the_message_lists_what_can_be_set():
    with pytest.raises(AttributeError, match=r"what can be set is trainable, trainable_rows, training, vocabulary, weight$"):
        fe.Embedding(3, 2).trainable_row = [0]
    with pytest.raises(AttributeError) as caught:
        setattr(fe.Embedding(3, 2), "x" * 1000, 1)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("kind", [kind for kind in MADE if kind != "SentenceEncoder"])  # a function cannot be pickled
def test_copies_and_pickles_refuse_them_too(kind):
    made = MADE[kind]()
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        with pytest.raises(AttributeError, match="no attribute trainable_row;"):
            again.trainable_row = [0]


class OfUser(fe.Embedding):
    """A layer of a user, with attributes of its own."""


def test_a_subclass_of_a_user_takes_any_attribute():
    layer = OfUser(3, 2, rng=0)
    layer.scale = 2.0
    layer.trainable_rows = [1]
    again = pickle.loads(pickle.dumps(layer))
    assert again.scale == copy.copy(layer).scale == 2.0
    assert again.trainable_rows == (1,)


def test_what_layers_have_can_be_set_as_before():
    layer = fe.Embedding(3, 2, rng=0)
    layer.trainable_rows, layer.trainable, layer.vocabulary = [0], False, ["a", "b", "c"]
    layer.weight *= 2
    with pytest.raises(AttributeError):
        layer.padding_idx = 1


def test_optimizers_refuse_unknown_options():
    opt = fe.optim.Adam(fe.Embedding(3, 2))
    with pytest.raises(AttributeError, match="Adam has no option lrr; it has lr,"):
        opt.lrr = 0.1
