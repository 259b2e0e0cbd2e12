"""Random layouts of every argument, ids in and out of range: the reference's results."""

import subprocess
import sys

import numpy as np
import pytest
from common import (
    BOUNDS,
    DTYPES,
    ID_DTYPES,
    READ_LAYOUTS,
    assert_same,
    examples,
    floats,
    lists,
    outcome,
    relaid,
    same_bits,
    with_path,
)
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import reference

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)

layouts = st.sampled_from(READ_LAYOUTS)


@st.composite
def problems(draw):
    """Tables, ids and a gradient of one look-up, each in a layout of its own."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape, dtype, id_dtype = draw(shapes), draw(st.sampled_from(DTYPES)), draw(st.sampled_from(ID_DTYPES))
    n_rows, n_positions, width = draw(st.integers(0, 6)), draw(st.integers(0, 6)), draw(st.integers(0, 9))
    limits = np.iinfo(id_dtype)
    reach = draw(st.sampled_from([0, 1, 10, 2**70]))

    def ids(rows):
        low, high = max(limits.min, -reach), min(limits.max, max(rows - 1, 0) + reach)
        return relaid(rng.integers(low, high, shape, np.dtype(id_dtype), endpoint=True).astype(id_dtype), draw(layouts))

    def array(of_shape):
        return relaid(floats(rng, of_shape, dtype), draw(layouts))

    return {
        "wte": array((n_rows, width)),
        "wpe": array((n_positions, width)),
        "token_ids": ids(n_rows),
        "position_ids": draw(st.sampled_from([None, ids(n_positions)])),
        "dout": array((*shape, width)),
        "bounds": draw(st.sampled_from(BOUNDS)),
        "dtype": dtype,
        "shape": (*shape, width),
    }


def _is_told_by_lists(p):
    """Nested lists do not tell the width of a table without rows, nor the axes of empty ids."""
    return len(p["wte"]) > 0 and len(p["wpe"]) > 0


@examples(400)
@given(problems())
def test_reading_ops(p):
    wte, wpe, ids, positions = p["wte"], p["wpe"], p["token_ids"], p["position_ids"]
    before = [a.copy() for a in (wte, wpe, ids)]
    got = outcome(fe.gather, wte, ids, bounds=p["bounds"])
    got_sum = outcome(fe.gather_add, wte, ids, wpe, positions, bounds=p["bounds"])
    if _is_told_by_lists(p):
        expected = outcome(reference.gather, *lists(wte, ids), bounds=p["bounds"], dtype=p["dtype"])
        assert_same(got, expected, p["dtype"], p["shape"])
        expected = outcome(reference.gather_add, *lists(wte, ids, wpe, positions), bounds=p["bounds"], dtype=p["dtype"])
        assert_same(got_sum, expected, p["dtype"], p["shape"])
    else:
        assert got[0] == "returned" or got[1] is IndexError
        assert got_sum[0] == "returned" or got_sum[1] is IndexError
    for array, copy in zip((wte, wpe, ids), before, strict=True):
        assert array.tobytes() == copy.tobytes()


@examples(400)
@given(problems())
def test_writing_ops(p):
    wte, wpe, ids, positions, dout = p["wte"], p["wpe"], p["token_ids"], p["position_ids"], p["dout"]
    before_wte, before_wpe, before_dout = wte.copy(), wpe.copy(), dout.copy()
    got = outcome(fe.gather_add_backward, dout, ids, wte, wpe, positions, bounds=p["bounds"])
    after_wte, after_wpe = lists(before_wte, before_wpe)
    if got[0] == "raised":
        assert same_bits(wte, before_wte)
        assert same_bits(wpe, before_wpe)
    if got[0] == "returned" or got[1] is IndexError:
        if _is_told_by_lists(p):
            arguments = (*lists(before_dout, ids), after_wte, after_wpe, *lists(positions))
            assert got == outcome(reference.gather_add_backward, *arguments, bounds=p["bounds"], dtype=p["dtype"])
            assert same_bits(wte, np.array(after_wte, p["dtype"]).reshape(wte.shape))
            assert same_bits(wpe, np.array(after_wpe, p["dtype"]).reshape(wpe.shape))
    else:  # a layout that may not be written
        assert got[1] in (ValueError, TypeError)
        assert any(word in got[2] for word in ("read-only", "aligned", "native byte order", "contiguous rows", "overlap"))
    assert dout.tobytes() == before_dout.tobytes()


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
def test_a_read_past_the_end_of_such_an_array_ends_the_process():
    script = with_path(
        "import ctypes, numpy as np, common\n"
        "array = common.before_a_gap(np.ones(3))\n"
        "for size in (24, 25):\n"
        "    print(len(ctypes.string_at(array.ctypes.data, size)), flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "24\n"
    assert done.returncode != 0
