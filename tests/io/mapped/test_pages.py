"""Tables larger than memory: which pages are resident, and advice to the system about them."""

import os
import subprocess
import sys

import numpy as np
import pytest
from common import same_bits

import fastembed as fe
from fastembed._kernels import backend
from fastembed.io.disk import page_cache
from fastembed.io.formats import tensor_file
from fastembed.io.mapped import mapping

pytestmark = pytest.mark.on_reference

LARGE = """
import os, sys, numpy as np, fastembed as fe
V, D, n = 156_250_000, 64, 2_000                        # 40 GB, and as much for each state
kind, n_states, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
with fe.Embedding.create(path, (V, D), init=0) as layer:
    optimizer = getattr(fe.optim, kind)(layer, lr=0.1)
    small = fe.Embedding.from_pretrained(np.zeros((3, D), "f4"))
    like = getattr(fe.optim, kind)(small, lr=0.1)
    small.backward(np.ones((3, D), "f4"), range(3), optimizer=like)
    ids = np.random.default_rng(0).choice(V, n, replace=False)
    layer(ids[:10])
    before = resident()
    assert not layer(ids).any()
    layer.backward(np.ones((n, D), "f4"), ids, optimizer=optimizer)
    grown = resident() - before
    assert (layer(ids) == small([0])).all()
    layer.flush()
    after = resident() - before
with fe.Embedding.open(path) as layer:
    assert (layer(ids) == small([0])).all()
    assert not layer((ids + 1) % V)[np.isin((ids + 1) % V, ids, invert=True)].any()
print(grown, after, n * (n_states + 3) * os.sysconf("SC_PAGESIZE"))
"""


@pytest.mark.skipif(backend.name != "c" or sys.platform != "linux", reason="reads a whole table, or has no /proc")
@pytest.mark.uninstrumented
@pytest.mark.parametrize(("kind", "n_states"), [("SparseAdam", 2), ("Adagrad", 1)])
def test_forty_gigabytes(tmp_path, kind, n_states):
    """A page for each row of the table and of each state, for its mark, and for its step count."""
    try:
        with open(tmp_path / "probe", "wb") as file:
            file.truncate(41 * 10**9)
    except OSError:
        pytest.skip("no files of 40 GB here")
    os.unlink(tmp_path / "probe")
    result = subprocess.run(
        [sys.executable, "-c", LARGE, kind, str(n_states), str(tmp_path / "t")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    grown, after, bound = map(int, result.stdout.split())
    assert 0.2 * bound < grown < 1.1 * bound + 10**7
    assert after < grown


@pytest.mark.skipif(backend.name != "c", reason="advice is given by C")
def test_advice_changes_no_value(path):
    table = np.random.default_rng(0).standard_normal((5_000, 70)).astype("f4")
    fe.Embedding.create(path, table.shape, init=lambda a, b: table[a:b]).close()
    place = tensor_file.find(path)
    rows = np.array([4_999, -1, 7, 7, 0, 10**12, -(2**63), 3_000])
    for array in (mapping.mapped(path, place), mapping.mapped(path, place)[:0], mapping.mapped(path, place)[:, :0].copy()):
        for some in (rows, rows[:0], np.arange(5_000)):
            assert backend.kernels.any_nonresident(array, some) in (True, False)
            backend.kernels.prefetch_pages(array, some)
            backend.kernels.release_pages(array, some)
        assert same_bits(array, table[: len(array), : array.shape[1]])
    private = mapping.mapped(path, place)
    private[3] = 0
    backend.kernels.release_pages(private, np.array([3]))
    assert same_bits(private, table)
    with pytest.raises(ValueError, match="side by side"):
        backend.kernels.prefetch_pages(private[:, 1:], rows)


@pytest.mark.skipif(backend.name != "c", reason="asked by C")
def test_rows_are_resident_once_they_have_been_read(path):
    fe.Embedding.create(path, (5_000, 70), init=1).close()
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    page_cache.drop(path)
    if page_cache.n_bytes_cached(path) != 0:
        pytest.skip("the system keeps files in memory")
    place = tensor_file.find(path)
    array, rows = mapping.mapped(path, place), np.arange(40, 5_000)
    assert backend.kernels.any_nonresident(array, rows)
    assert array.sum() == array.size
    assert not backend.kernels.any_nonresident(array, rows)
    assert not backend.kernels.any_nonresident(array, rows[:0])
