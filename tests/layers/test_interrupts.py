"""An interrupt behind the last write of a call: what the call has set belongs to what it wrote."""

import numpy as np
import pytest

import fastembed as fe
from fastembed._kernels.backend import kernels
from fastembed.layers.groups.table_group import GroupedBag

pytestmark = pytest.mark.on_reference


@pytest.fixture
def interrupted(monkeypatch):
    """A function that calls another one, interrupted as soon as it has written."""

    class Interrupted(kernels.Commit):
        def run(self):
            super().run()
            raise KeyboardInterrupt

    def call(function, *arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "Commit", Interrupted)
            with pytest.raises(KeyboardInterrupt):
                function(*arguments, **options)

    return call


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("is_step", [True, False])
def test_gradients_of_weights_are_those_of_the_backward_pass(interrupted, mode, is_step):
    def made():
        layer = fe.EmbeddingBag(6, 3, mode=mode, rng=0)
        return layer, fe.optim.SGD(layer, lr=0.1)

    (layer, optimizer), (twin, of_twin) = made(), made()
    weights = None if mode == "max" else np.array([[0.5, 2.0]])
    first, second = (np.ones((1, 3)), [[0, 1]], None, weights), (np.ones((1, 3)), [[2, 2]], None, weights)
    for of, by in ((layer, optimizer), (twin, of_twin)):
        of.backward(*first, optimizer=by if is_step else None)
    interrupted(layer.backward, *second, optimizer=optimizer if is_step else None)
    twin.backward(*second, optimizer=of_twin if is_step else None)
    assert np.array_equal(layer.weight, twin.weight)
    assert np.array_equal(layer.dense_grads()["weight"], twin.dense_grads()["weight"])
    assert optimizer.step_counts == of_twin.step_counts == [2 * is_step]
    assert np.array_equal(layer.per_sample_weights_grad, twin.per_sample_weights_grad)


def test_a_collection_calls_the_tables_that_it_has(interrupted):
    layer = fe.EmbeddingCollection({"a": np.ones((3, 2)), "b": np.ones((2, 1))})
    assert layer([0, 1], lengths=[1, 1]).tolist() == [[1.0, 1.0, 1.0]]
    interrupted(layer.tables["b"].resize, 4, new_rows=5.0)
    assert layer([0, 3], lengths=[1, 1]).tolist() == [[1.0, 1.0, 5.0]]
    optimizer = fe.optim.SGD(layer, lr=1.0)
    weights = [1.0, 3.0]
    interrupted(layer.backward, [[1.0, 1.0, 2.0]], [0, 3], None, [1, 1], weights, optimizer=optimizer)
    assert optimizer.step_counts == [1, 1]
    assert layer([0, 3], lengths=[1, 1]).tolist() == [[0.0, 0.0, -1.0]]
    assert layer.per_sample_weights_grad.tolist() == [2.0, 10.0]


def test_a_collection_counts_once_its_tables_do(interrupted):
    layer = fe.EmbeddingCollection({"a": np.ones((3, 2)), "b": np.ones((2, 1))})
    layer([0, 1], lengths=[1, 1])
    interrupted(layer.tables["a"].count_lookups)
    layer([2, 1], lengths=[1, 1])
    assert layer.tables["a"].lookup_counts()["weight"].tolist() == [0, 0, 1]
    interrupted(layer.load_state_dict, layer.state_dict() | {"b.weight.lookups": [3, 4]})
    layer([2, 1], lengths=[1, 1])
    assert layer.tables["a"].lookup_counts()["weight"].tolist() == [0, 0, 2]
    assert layer.tables["b"].lookup_counts()["weight"].tolist() == [3, 5]


def test_a_layer_counts_once_it_has_counts(interrupted):
    layer = fe.Embedding(3, 2, rng=0)
    layer([1])
    interrupted(layer.count_lookups)
    layer([1])
    layer(1)
    assert layer.lookup_counts()["weight"].tolist() == [0, 2, 0]
    interrupted(layer.count_lookups, False)
    layer([1])
    assert layer.lookup_counts() == {}
    layer.count_lookups()
    interrupted(layer.load_state_dict, {"weight": layer.weight, "weight.lookups": [7, 8, 9]})
    layer([1])
    assert layer.lookup_counts()["weight"].tolist() == [7, 9, 9]


def test_a_table_of_a_group_says_what_it_changes():
    """Of a group, and by itself, where there is nobody to say it to."""
    bag = GroupedBag.from_pretrained(np.ones((2, 1)), mode="sum")
    bag.resize(3)
    bag.count_lookups()
    assert bag([[0, 2]]).tolist() == [[1.0]]
    assert bag.lookup_counts()["weight"].tolist() == [1, 0, 1]


def test_skip_gram_counts_look_ups_with_its_step(interrupted):
    layers = [fe.Embedding(4, 2, rng=k).count_lookups() for k in range(2)]
    optimizer, pairs = fe.optim.SGD(layers, lr=0.1), ([0], [1], [[2]])
    interrupted(fe.losses.skip_gram, *layers, *pairs, optimizer=optimizer)
    counts = [layer.lookup_counts()["weight"].tolist() for layer in layers]
    assert (optimizer.step_counts, counts) == ([1, 1], [[1, 0, 0, 0], [0, 1, 1, 0]])
    layers[0].backward(np.ones((1, 2)), [3])
    with pytest.raises(RuntimeError, match="an accumulated gradient is pending"):
        fe.losses.skip_gram(*layers, *pairs, optimizer=optimizer)
    assert [layer.lookup_counts()["weight"].tolist() for layer in layers] == counts
