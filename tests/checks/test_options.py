"""An option that there is not is named beside those that there are, and so is its class."""

import numpy as np
import pytest
from common import outcome

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

TABLE = np.ones((3, 2))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: fe.Embedding.from_pretrained(TABLE, padding=1),
            "Embedding has no option padding; it has freeze, trainable_rows, p",
        ),
        (
            lambda: fe.EmbeddingBag.from_pretrained(TABLE, modus=1),
            "EmbeddingBag has no option modus; it has .*mode, include_last",
        ),
        (
            lambda: fe.HashEmbedding.from_pretrained(TABLE, bounds="clip"),
            "HashEmbedding has no option bounds; .*seed, hash, dropout",
        ),
        (
            lambda: fe.TokenPositionEmbedding(2, 2, 2, scale=1),
            "TokenPositionEmbedding has no option scale; it has n_types, dtype",
        ),
        (lambda: fe.TokenPositionEmbedding.from_arrays(TABLE, TABLE, std=1), "TokenPositionEmbedding has no option std; it has"),
    ],
)
def test_layers(call, text):
    with pytest.raises(TypeError, match=text):
        call()


def test_every_option_of_a_constructor_is_known(tmp_path):
    """The names in the message are all that there are: each is accepted."""
    apart = {"dtype", "std", "rng", "trainable_rows"}
    for kind in (fe.Embedding, fe.EmbeddingBag, fe.HashEmbedding):
        assert set(kind._options) == set(kind.__init__.__kwdefaults__) - apart
    assert set(fe.TokenPositionEmbedding._options) == set(fe.TokenPositionEmbedding._set_up.__kwdefaults__)
    np.save(tmp_path / "table.npy", TABLE)
    with pytest.raises(TypeError, match="Embedding has no option modus; it has"):
        fe.Embedding.open(tmp_path / "table.npy", "r+", modus=1)
    fe.Embedding.open(tmp_path / "table.npy", "r+").close()  # the failed call has left no lock


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RowWiseAdagrad", "Adam", "AdamW", "SparseAdam"])
def test_optimizers(name):
    got, expected = (
        outcome(getattr(of.optim, name), of.Embedding(3, 2), amsgrad=True) for of in (fe, reference)
    )  # fmt: skip
    assert got == expected
    assert got[1] is TypeError
    assert got[2].startswith(f"{name} has no option amsgrad; it has lr, ")
    assert got[2].endswith("master_rows, stochastic_rounding, step_without_grad")


def test_nesterov_requires_a_momentum_and_no_dampening():
    layer, like = fe.Embedding(3, 2), reference.Embedding(3, 2)
    text = "nesterov requires a momentum above 0 and no dampening, got momentum {} and dampening {}"
    for momentum, dampening in ((0.0, 0.0), (0, 0), (0.9, 0.5)):
        options = {"nesterov": True, "momentum": momentum, "dampening": dampening}
        got, expected = outcome(fe.optim.SGD, layer, **options), outcome(reference.optim.SGD, like, **options)
        assert got == expected == ("raised", ValueError, text.format(float(momentum), float(dampening)))
    groups = [[{"params": of, "nesterov": True}] for of in (layer, like)]
    got, expected = (outcome(of.optim.SGD, group) for of, group in zip((fe, reference), groups, strict=True))
    assert got == expected == ("raised", ValueError, text.format(0.0, 0.0))
    groups = [{"params": layer, "momentum": 0.9}]
    assert fe.optim.SGD(groups, nesterov=True).param_groups[0]["nesterov"] is True
