"""The reference computes in the default floating-point environment, whatever its caller has set.

So do the public names on both backends.
"""

import random

import numpy as np
import pytest
from differential.surroundings import fp_state, fp_states

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

THIRDS = [[1 / 3, -2 / 3, 1e-308], [0.1, 0.7, -0.3]]
STATES = fp_states("all")[1:]


def results():
    """Of functions, methods and functions of its modules, after one that has raised."""
    grad = reference.RowGrad.from_coo([0.1, 0.2, 0.7], ([0, 1, 1], [0, 1, 0]), 2)
    layer = reference.Embedding.from_pretrained([[*row] for row in THIRDS], dtype="float32")
    optimizer = reference.optim.Adam(layer, lr=0.1, dtype="float32")
    for _ in range(3):
        layer.backward([[0.1, 0.3, 1e-40]], [1], optimizer=optimizer)
    with pytest.raises(IndexError):
        reference.gather(THIRDS, [2])
    return [
        reference.gather_add(THIRDS, [0, 1], THIRDS),
        reference.embedding_bag(THIRDS, [[0, 1, 0]], mode="mean"),
        grad.scale(1 / 3).rows,
        grad.norm(),
        layer.weight,
        reference.rules.dot(THIRDS[0], THIRDS[1], reference.rounding("float32")),
        reference.quantized.quantize(THIRDS, 8),
        reference.TokenPositionEmbedding(3, 3, 2, rng=random.Random(0)).wte,
        reference.nearest(THIRDS, [0], 2),
    ]


def results_of_the_package(wider):
    table = np.array([[0.5, 0.25], [0.75, 0.125]], "float32")
    optimizer = fe.optim.Adam(fe.Embedding.from_pretrained(table), lr=fe.schedule.cosine(0.1, 7))
    (layer,) = optimizer.items
    for _ in range(2):
        layer.backward(wider, [0, 1], optimizer=optimizer)
    layer.resize(3, new_rows=wider[0])
    grad = fe.RowGrad([0, 1], wider, (2, 2))
    return [layer.weight.tolist(), layer([0, 2]).tolist(), grad.norm(), grad.scale(1 / 3).rows.tolist(), optimizer.lr]


@pytest.mark.parametrize("state", STATES)
def test_the_package_does_not_follow_the_caller(state):
    wider = np.array([[1, 2], [4, 5]]) / 3
    expected = results_of_the_package(wider)
    with fp_state(state):
        assert results_of_the_package(wider) == expected


@pytest.mark.parametrize("state", STATES)
def test_results_do_not_follow_the_caller(state):
    expected = results()
    with fp_state(state):
        found = results()
        of_caller = sum([2.0**-1022]) / 2, sum([1.0]) / 3
    assert found == expected
    assert (of_caller[0] == 0) == ("flush" in state)  # it is as it was
    assert (of_caller[1] > 1 / 3) == ("up" in state)
