"""Ids of every kind, and ids that are not integers, given to layers."""

from collections import UserList, deque

import numpy as np
import pytest
from common import OnlyArray, OnlyDlpack, same_bits

import fastembed as fe

pytestmark = pytest.mark.on_reference


def test_ids_of_every_kind():
    layer = fe.Embedding(9, 2, rng=0)
    expected = layer.weight[[1, 2, 3]]
    same = np.array([1, 2, 3])
    for ids in (
        [1, 2, 3],
        (1, 2, 3),
        range(1, 4),
        same.astype("u1"),
        [np.int8(1), 2, np.uint64(3)],
        OnlyDlpack(same),
        OnlyArray(same),
        deque([1, 2, 3]),
        [OnlyArray(np.array(1)), 2, np.array(3)],
    ):
        assert same_bits(layer(ids), expected)
        assert same_bits(fe.gather(layer.weight, ids), expected)
    for ids in (2, np.int16(2), np.uint64(2), np.array(2), OnlyDlpack(np.array(2))):
        assert same_bits(layer(ids), layer.weight[2])


@pytest.mark.parametrize(
    "ids",
    [
        [1.0], 1.0, np.array([1.0]), np.float32(1), [1, 2.0], True, [True], [1, True], [[1, 2], [3, False]], (np.True_, 1),
        [[1, 2], np.array([True, False])], np.array([True]), np.bool_(True), ["1"], "1", None, [None], b"1", 1j, [[1, 2], [3]],
        OnlyDlpack(np.array([1.0])), OnlyArray(np.array([1.0])), np.array(["1"]), np.array([1], object),
        np.datetime64("2020-01-01"), [OnlyArray(np.array(True)), 1], [[2, 1], OnlyArray(np.array([True, False]))],
        UserList([1, True]), deque([True, 1]), [UserList([True]), [1]],
    ],
    ids=repr,
)  # fmt: skip
def test_ids_that_are_not_integers(ids):
    layer = fe.Embedding(9, 2, rng=0)
    pair = fe.TokenPositionEmbedding(9, 9, 2, rng=0)
    for call in (
        lambda: layer(ids),
        lambda: layer.backward(np.ones((1, 2)), ids),
        lambda: pair(ids),
        lambda: fe.gather(layer.weight, ids),
    ):
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            call()
    assert len(layer.grads()["weight"]) == 0
