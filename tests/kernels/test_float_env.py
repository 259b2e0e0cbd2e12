"""The caller's rounding mode changes no result, in any thread, and is restored."""

import ctypes
import ctypes.util

import numpy as np
import pytest

import fastembed as fe

pytestmark = pytest.mark.skipif(fe.show_config()["machine"] != "x86_64", reason="rounding modes of x86")

NEAREST, DOWN, UP, TO_ZERO = 0, 0x400, 0x800, 0xC00


@pytest.fixture(scope="module")
def libm():
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    assert library.fegetround() == NEAREST
    yield library
    library.fesetround(NEAREST)


def results(in_mode):
    """The bytes of what calls return or write; ``in_mode`` runs a call in some rounding mode."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((300, 67)).astype("f4")
    positions = rng.standard_normal((40, 67)).astype("f4")
    ids = rng.integers(0, 300, (50, 40))
    values = rng.standard_normal((50, 40, 67))
    pair = fe.TokenPositionEmbedding.from_arrays(table.copy(), positions.copy(), norm="rms", token_scale=1.1)
    plain = fe.TokenPositionEmbedding.from_arrays(table.copy(), positions.copy())
    layer = fe.Embedding.from_pretrained(table.copy(), max_norm=5.0)
    optimizer = fe.optim.AdamW(layer, lr=1e-3)
    summed = table.copy()
    bag = fe.EmbeddingBag.from_pretrained(table.copy(), mode="mean")
    calls = (
        lambda: fe.gather_add(table, ids, positions),
        lambda: plain(4, 2),
        lambda: plain([1, 2, 3]),
        lambda: pair(ids),
        lambda: fe.scatter_add(summed, ids, values),  # float64, rounded to float32
        lambda: summed,
        lambda: bag(ids),
        lambda: bag.backward(values[:, 0]),
        lambda: bag.grads()["weight"].rows,
        *(lambda k=k: layer.backward(values[k], ids=ids[k], optimizer=optimizer) for k in range(5)),
        lambda: layer(ids),
        lambda: layer.weight,
        lambda: layer.statistics()["weight"].mean_norm,
    )
    return [np.asarray(in_mode(call), dtype=None).tobytes() for call in calls if call is not None]


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("mode", [DOWN, UP, TO_ZERO])
def test_every_rounding_mode_gives_the_same_bits(libm, mode, n_threads):
    def in_mode(call):
        libm.fesetround(mode)
        try:
            found = call()
            assert libm.fegetround() == mode
        finally:
            libm.fesetround(NEAREST)
        return b"" if found is None else found

    with fe.threads(n_threads):
        expected = results(lambda call: b"" if (found := call()) is None else found)
        assert results(in_mode) == expected
