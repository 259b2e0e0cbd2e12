"""Calls of layers with ``out`` and ``start``: by C at once as by the way of all other calls."""

import signal

import numpy as np
import pytest
from common import needs_c, same_bits
from plain_calls import FLOATS, D, V, answer, floats, ids_of, outs_for

import fastembed as fe


def check_layer(layer, *arguments, out=None, **options):
    """A call gives the same by C at once as by the layer's way for calls that do more than read."""
    given = {**options, **({} if out is None else {"out": out})}
    before = out.copy() if isinstance(out, np.ndarray) and out.flags.writeable else None
    answers = []
    for is_fast in (True, False):
        layer._fast_path = is_fast
        found = answer(lambda: layer(*arguments, **given), out)
        last = layer._last_ids
        if last is not None:
            last = tuple(getattr(x, "start", x) if k == 2 else x for k, x in enumerate(last))
        answers.append((*found, last))
        layer._last_ids = None
        if before is not None:
            out[...] = before
    layer._fast_path = True
    for a, b in zip(*answers, strict=True):
        assert same_bits(a, b) if isinstance(a, np.ndarray) else a is b or _equal(a, b)


def _equal(a, b):
    if isinstance(a, tuple):
        return len(a) == len(b) and all(x is y or _equal(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(np.all(a == b)) if isinstance(a, np.ndarray) else a == b


@needs_c
@pytest.mark.parametrize("dtype", [name for name in FLOATS if name != "swapped"])
def test_options_of_layers(dtype):
    table = floats(FLOATS[dtype])
    single, pair = fe.Embedding.from_pretrained(table), fe.TokenPositionEmbedding.from_arrays(table, table[:7].copy())
    ids = np.arange(6).reshape(2, 3)
    for layer in (single, pair):
        for out in outs_for((2, 3, D), table.dtype, table):
            check_layer(layer, ids, out=out)
            check_layer(layer, ids + V, out=out)
        for given in ids_of(V):
            check_layer(layer, given, out=np.zeros((*np.shape(given), D), table.dtype) if isinstance(given, np.ndarray) else None)
        check_layer(layer, ids, nothing=1), check_layer(layer, out=None), check_layer(layer, ids, out_dtype="float32")
        check_layer(layer, ids, None, start=1), check_layer(layer, ids=ids)
    starts = (0, 3, 4, 5, 7, -1, True, np.int64(2), 10**30, 2**62, 2**63, "a", None, 1.0)
    for start in starts:
        for given in (ids, ids[0], 3, [1, 2], np.arange(0), [V], np.arange(3, dtype="u1")):
            check_layer(pair, given, start=start)
            check_layer(pair, given, start=start, mask=None)
            check_layer(pair, given, 2, start=start)
        check_layer(pair, ids, start=start, out=np.zeros((2, 3, D), table.dtype))
        check_layer(single, ids, start=start)


@needs_c
def test_the_start_of_a_plain_call_is_remembered():
    table, dout = floats("float32"), np.ones((3, D), np.float32)
    layer, other = (fe.TokenPositionEmbedding.from_arrays(table.copy(), table[:7].copy()) for _ in range(2))
    out = np.zeros((3, D), np.float32)
    assert layer(np.array([1, 2, 1]), start=4, out=out) is out
    layer.backward(dout)
    other.backward(dout, [1, 2, 1], start=4)
    for name, grad in other.grads().items():
        assert layer.grads()[name].ids.tolist() == grad.ids.tolist()
        assert same_bits(layer.grads()[name].rows, grad.rows)


@needs_c
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends a signal")
def test_a_look_up_without_columns_can_be_interrupted():
    """Of so many ids that it would take an hour."""

    def on_alarm(*_):
        raise InterruptedError("the timer")

    table, ids = np.zeros((3, 0), np.float32), np.broadcast_to(np.int64(0), (2**40,))
    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        for call in (lambda: fe.gather(table, ids), lambda: fe.Embedding.from_pretrained(table)(ids)):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(InterruptedError, match="the timer"):
                call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
