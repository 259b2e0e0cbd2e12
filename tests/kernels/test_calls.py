"""Calls that go straight to C, and arrays that the boundary refuses."""

import numpy as np
import pytest
from common import needs_c, same_bits

import fastembed as fe
from fastembed._kernels import backend

pytestmark = needs_c


def test_a_subclass_may_have_a_call_of_its_own(monkeypatch):
    """Calls go past `__call__` only while it is the one that was inherited."""

    class Doubled(fe.TokenPositionEmbedding):
        def __call__(self, *args, **kwargs):
            return 2 * super().__call__(*args, **kwargs)

    class Heir(Doubled):
        pass

    plain = fe.TokenPositionEmbedding(5, 4, 3, dtype="float64", rng=0)
    expected = plain.wte[4] + plain.wpe[2]
    for cls in (Doubled, Heir):
        assert same_bits(cls.from_arrays(plain.wte, plain.wpe)(4, 2), 2 * expected)
    assert same_bits(plain(4, 2), expected)
    monkeypatch.setattr(fe.TokenPositionEmbedding, "__call__", lambda self, *args: "patched")
    assert plain(4, 2) == "patched"
    monkeypatch.undo()
    assert same_bits(plain(token_ids=4, position_ids=2), expected)
    with pytest.raises(TypeError):
        plain()
    with pytest.raises(TypeError):
        plain(1, 2, 3)


def test_the_kernels_refuse_arrays_that_do_not_match():
    kernels, table = backend.kernels, np.zeros((3, 4), "f4")
    rest = np.zeros(3, np.int32), None, np.zeros((1, kernels.N_SCALARS))
    for rule, states in (("adam", (table,) * 3), ("sgd", (None,)), ("row_wise_adagrad", ())):
        with pytest.raises(ValueError, match="states do not match the rule"):
            kernels.LazyTable(rule, table, states, *rest)
    for grads in (np.zeros((1, 8), "f4")[:, ::2], np.zeros((1, 4), ">f4")):
        with pytest.raises(ValueError, match="shape or dtype of the gradients does not match the table"):
            kernels.add_rows(table, np.zeros(1, np.int64), None, None, False, grads)
