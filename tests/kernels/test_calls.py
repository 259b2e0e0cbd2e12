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


def misaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    memory[:] = np.frombuffer(array.tobytes(), np.uint8)
    return memory.view(array.dtype)


@pytest.mark.parametrize("name", ["n_applied", "multipliers", "steps"])
def test_a_lazy_table_refuses_numbers_that_do_not_match(name):
    kernels = backend.kernels
    numbers = {"n_applied": np.zeros(3, np.int32), "multipliers": np.ones(3), "steps": np.zeros((2, kernels.N_SCALARS))}
    right = numbers[name]
    wide = np.zeros((len(right), *right.shape[1:], 2), right.dtype)
    wrong = [right[..., :-1].copy(), right.astype("f4"), right.byteswap().view(right.dtype.newbyteorder()), wide[..., 0]]
    for array in [*wrong, misaligned(right)]:
        with pytest.raises(ValueError, match=f"shape or dtype of {name} does not match"):
            kernels.LazyTable("sgd", np.zeros((3, 4), "f4"), (), **(numbers | {name: array}))
    right.flags.writeable = False
    if name == "multipliers":
        kernels.LazyTable("sgd", np.zeros((3, 4), "f4"), (), **numbers)
    else:
        with pytest.raises(ValueError, match=f"{name} must be writeable"):
            kernels.LazyTable("sgd", np.zeros((3, 4), "f4"), (), **numbers)


def test_states_and_masters_have_the_rows_of_their_table():
    kernels, table, halves = backend.kernels, np.zeros((3, 4), "f4"), np.zeros((3, 4), np.float16)
    rest = np.zeros(3, np.int32), None, np.zeros((1, kernels.N_SCALARS))
    for state in (np.zeros((2, 4), "f4"), np.zeros((3, 5), "f4"), np.zeros((3, 4))):
        with pytest.raises(ValueError, match="shape or dtype of the state does not match the table"):
            kernels.LazyTable("sgd", table, (state,), *rest)
        with pytest.raises(ValueError, match="shape or dtype of the masters does not match the table"):
            kernels.LazyTable("sgd", halves, (), *rest, state)
    with pytest.raises(ValueError, match="masters are of a table of halves"):
        kernels.LazyTable("sgd", table, (), *rest, table)
    with pytest.raises(ValueError, match="native floats"):
        kernels.LazyTable("sgd", halves.view(np.uint16), (), *rest)


def test_a_batch_refuses_numbers_that_do_not_match():
    kernels, sums, grads = backend.kernels, np.zeros((3, 2)), np.ones((2, 2))
    rows, order, factors = np.array([0, 2]), np.array([1, 0], np.int32), np.array([2.0, 3.0])
    for name, batch in {
        "rows": (rows.astype(np.uint64), order, factors),
        "order": (rows, order.astype(np.int64), factors),
        "factors": (rows, order, factors[:1]),
    }.items():
        with pytest.raises(ValueError, match=f"shape or dtype of {name} does not match: 2 numbers"):
            kernels.add_rows(sums, *batch, False, grads)
    for place in (-1, 2, np.iinfo(np.int32).max):
        with pytest.raises(ValueError, match="a place outside the gradients"):
            kernels.add_rows(sums, rows, np.array([0, place], np.int32), factors, False, grads)
    assert not sums.any()
    kernels.add_rows(sums, rows.astype(np.longlong), order, factors, False, grads * [[1.0], [10.0]])
    assert sums.tolist() == [[20.0, 20.0], [0.0, 0.0], [3.0, 3.0]]
