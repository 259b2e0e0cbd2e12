"""The same bits for every instruction set and number of threads, at every alignment."""

from pathlib import Path

import numpy as np
import pytest
from common import DTYPES, ISAS, floats, needs_c, same_bits

import fastembed as fe

pytestmark = needs_c


def problems(rng, dtype):
    """Tables, ids (some of them far outside) and gradients: narrow, wide, streamed and split."""
    shapes = [
        (7, 5, 1, (3,)),
        (40, 9, 33, (5, 8)),
        (3000, 64, 768, (40, 64)),
        (500, 300, 31, (30, 300)),
        (9, 200, 2048, (17, 200)),
    ]
    for n_rows, n_positions, width, shape in shapes:
        wte, wpe = floats(rng, (n_rows, width), dtype), floats(rng, (n_positions, width), dtype)
        ids = (n_rows * rng.random(shape) ** 3).astype(np.int32)
        missing = ids - (rng.random(shape) < 0.1).astype(np.int32) * 10**6
        yield wte, wpe, ids, missing, floats(rng, (*shape, width), dtype)


def results(drawn):
    """What comes out of every op."""
    found = []
    for wte, wpe, ids, missing, dout in drawn:
        with np.errstate(all="ignore"):
            dwte, dwpe, table, out = wte.copy(), wpe.copy(), wte.copy(), np.empty_like(dout)
            fe.gather_add(wte, missing, wpe, bounds="zero", out=out)
            fe.gather_add_backward(dout, ids, dwte, dwpe)
            fe.scatter_add(table, missing, dout, bounds="zero")
            backwards = wte.copy()  # in runs of the last axis, which blocks of items cut anywhere
            fe.scatter_add(backwards, ids[..., ::-1], dout[..., ::-1, :])
            found += [fe.gather(wte, ids), fe.gather_add(wte, ids, wpe), out, dwte, dwpe, table, backwards]
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_threads_or_instruction_set(select_isa, dtype):
    drawn = list(problems(np.random.default_rng(0), dtype))
    select_isa("baseline")
    with fe.threads(1):
        expected = results(drawn)
    for name in ISAS:
        select_isa(name)
        for n in (1, 2, 3, 8, 64):
            with fe.threads(n):
                assert all(same_bits(a, b) for a, b in zip(results(drawn), expected, strict=True)), (name, n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_results_are_right_at_every_alignment(select_isa, dtype):
    """Results beyond 16 MiB bypass the cache, in whole cache lines with loose ends around them."""
    rng = np.random.default_rng(1)
    width = 700
    wte, wpe = floats(rng, (50, width), dtype), floats(rng, (64, width), dtype)
    n = (1 << 24) // (width * wte.itemsize) // 64 + 2
    ids = rng.integers(0, 50, (n, 64))
    with np.errstate(all="ignore"):
        expected = wte[ids] + wpe
    assert expected.nbytes > 1 << 24
    for name in ISAS:
        select_isa(name)
        for offset in (0, 1, 3, 15):
            memory = np.full(expected.size + n * 64 * 5 + 16, 7, dtype)
            rows = memory[offset : offset + n * 64 * (width + 5)].reshape(n, 64, width + 5)
            fe.gather_add(wte, ids, wpe, out=rows[..., :width])
            assert same_bits(rows[..., :width], expected)
            fe.gather(wte, ids, out=rows[..., :width])
            assert same_bits(rows[..., :width], wte[ids])
            assert np.all(rows[..., width:] == 7)
            assert np.all(memory[:offset] == 7)


def test_the_compiler_keeps_the_prefetch_of_pages():
    """Only speed would tell if it were gone: a compiler once left all of its calls out.

    A static function that nothing calls has no symbol.
    """
    module = Path(fe._kernels._core.__file__).read_bytes()
    if b"gather_halves\0" not in module:
        pytest.skip("the module is stripped of its symbols")
    assert b"prefetch_first_lines\0" in module
