"""Custom calls of XLA that the adapter of JAX does not make: each is refused, or answered."""

import contextlib

import numpy as np
import pytest
from common import needs_c
from sharing.soak import Reading

jax = pytest.importorskip("jax", reason="calls through XLA")
if needs_c.args[0]:
    pytest.skip("the adapter of JAX needs the C backend", allow_module_level=True)

from jax import numpy as jnp  # noqa: E402

import fastembed.adapters.jax  # noqa: E402, F401

TABLE, IDS = np.arange(12, dtype="f4").reshape(4, 3), np.array([1, 3], np.int32)
RAISE = {"bounds": 0}
BAGS = {**RAISE, "mode": 0, "padding": -1}
ROWS = {**RAISE, "padding": -1, "n_rows": 4}
OF_IDS, OF_BAGS, OF_TABLE, OF_ROWS = (
    jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in (((2, 3), "f4"), ((1, 3), "f4"), ((4, 3), "f4"), ((2,), "i4"))
)
FP8 = TABLE.astype(jnp.float8_e4m3fn)
OF_FP8 = jax.ShapeDtypeStruct((2, 3), FP8.dtype)
FLOAT_IDS, NO_OFFSETS = IDS.astype("f4"), IDS[:0]


def call(handler, result, *args, **attrs):
    return np.asarray(jax.ffi.ffi_call(f"fastembed_{handler}", result)(*args, **{k: np.int64(v) for k, v in attrs.items()}))


@pytest.mark.parametrize(
    ("arguments", "attrs", "match"),
    [
        (("take", OF_IDS, TABLE), RAISE, "another number of arguments"),
        (("take", OF_IDS, TABLE, IDS), {}, "no attribute bounds of 64 bits"),
        (("take", OF_IDS, TABLE, IDS), {"mode": 0, "radius": 1}, "no attribute bounds of 64 bits"),
        (("take", OF_IDS, FP8, IDS), RAISE, "rows of an unknown type or shape"),
        (("take", OF_IDS, TABLE[0, 0], IDS), RAISE, "rows of an unknown type or shape"),
        (("take", OF_FP8, TABLE, IDS), RAISE, "rows of an unknown type or shape"),
        (("take", OF_IDS, TABLE, FLOAT_IDS), RAISE, "ids must be integers"),
        (("take", OF_IDS, TABLE, IDS > 0), RAISE, "ids must be integers"),
        (("bag", OF_BAGS, TABLE, IDS), {}, "no attribute"),
        (("bag", OF_BAGS, FP8, IDS), BAGS, "rows of an unknown type or shape"),
        (("bag", OF_BAGS, TABLE, FLOAT_IDS), BAGS, "ids must be integers"),
        (("bag", jax.ShapeDtypeStruct((1, 3), FP8.dtype), TABLE, IDS), BAGS, "rows of an unknown type or shape"),
        (("bag", OF_BAGS, TABLE, IDS, FLOAT_IDS[:1]), BAGS, "ids must be integers"),
        (("add", OF_TABLE, TABLE[:0], IDS, NO_OFFSETS), BAGS, "offsets must start at 0, got 2"),
        (("rows", OF_ROWS, FLOAT_IDS), ROWS, "ids must be integers"),
        (("rows", OF_ROWS, IDS + 2), ROWS, "id 5 at position .1,. is out of range for a table of 4 rows"),
        (("add", OF_TABLE, FP8[:2], IDS), BAGS, "rows of an unknown type or shape"),
        (("add", jax.ShapeDtypeStruct((4, 3), FP8.dtype), TABLE[:2], IDS), BAGS, "rows of an unknown type or shape"),
        (("add", OF_TABLE, TABLE[:2], IDS, IDS[:1] - 1), BAGS, "2 gradients, and 1 bags"),
        (("add", OF_TABLE, TABLE[:2], FLOAT_IDS), BAGS, "ids must be integers"),
        (("add", OF_TABLE, TABLE[:2], IDS, FLOAT_IDS), BAGS, "ids must be integers"),
    ],
)
def test_what_is_refused(arguments, attrs, match):
    with pytest.raises(Exception, match=match):
        call(*arguments, **attrs)


def test_attributes_of_other_types_and_two_results():
    with pytest.raises(Exception, match="no attribute bounds of 64 bits"):
        np.asarray(jax.ffi.ffi_call("fastembed_take", OF_IDS)(TABLE, IDS, bounds=np.int32(2)))
    with pytest.raises(Exception, match="no attribute bounds of 64 bits"):
        np.asarray(jax.ffi.ffi_call("fastembed_take", OF_IDS)(TABLE, IDS, bounds="raise"))
    with pytest.raises(Exception, match="another number of arguments"):
        np.asarray(jax.ffi.ffi_call("fastembed_take", (OF_IDS, OF_IDS))(TABLE, IDS, bounds=np.int64(0))[0])


def test_ids_of_64_bits_without_a_sign():
    with jax.enable_x64(True), pytest.raises(Exception, match="id 18446744073709551615 at position"):
        call("take", OF_IDS, TABLE, np.array([0, 2**64 - 1], np.uint64), **RAISE)


def test_what_is_answered():
    assert call("rows", OF_ROWS, IDS, **{**ROWS, "padding": 3}).tolist() == [1, -1]
    assert not call("add", OF_TABLE, TABLE[:0], IDS[:0], NO_OFFSETS, **BAGS).any()
    complex_table = (TABLE + 1j).astype("c8")
    got = call("bag", jax.ShapeDtypeStruct((1, 3), "c8"), complex_table, IDS[None], **BAGS)
    assert got.tolist() == [(complex_table[1] + complex_table[3]).tolist()]


@pytest.mark.uninstrumented
@pytest.mark.parametrize("refused", [False, True])
def test_no_call_keeps_memory(refused):
    """Each takes 8 bytes or more an id as it runs: twenty of each may not keep those of two."""
    n = 50_000
    ids = np.zeros(n, np.int32)
    ids[-1] = 4 if refused else 3
    starts, grads = np.arange(n, dtype=np.int32), np.ones((n, 3), "f4")
    of_bags, of_winners = (jax.ShapeDtypeStruct((n, 3), dtype) for dtype in ("f4", "i4"))

    def make_calls():
        for arguments in (
            ("rows", jax.ShapeDtypeStruct((n,), "i4"), ids),
            ("bag", of_bags, TABLE, ids, starts),
            ("winners", of_winners, TABLE, ids, grads, starts),
            ("add", OF_TABLE, grads, ids, starts),
            ("add", OF_TABLE, grads[:-1], ids, starts),
        ):
            attrs = ROWS if arguments[0] == "rows" else {**BAGS, "mode": 3} if arguments[0] == "winners" else BAGS
            is_refused = refused or len(arguments[2]) == n - 1
            with pytest.raises(Exception, match=r"out of range|gradients, and") if is_refused else contextlib.nullcontext():
                call(*arguments, **attrs)

    make_calls(), make_calls()
    before = Reading.now().in_use
    for _ in range(20):
        make_calls()
    assert Reading.now().in_use < before + 2 * 8 * n
