"""What shared tables refuse at the boundary to C, and what they then leave as it was."""

import errno

import numpy as np
import pytest
from common import needs_c
from shared_parts import parts

from fastembed._kernels import backend

pytestmark = needs_c


def test_memory(tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(bytes(8192))
    with open(path, "r+b") as file:
        memory = backend.kernels.SharedMemory(file.fileno(), 8192, True)
        with pytest.raises(OSError, match=r".") as found:
            backend.kernels.SharedMemory(file.fileno(), 0, True)
        assert found.value.errno == errno.EINVAL
        with pytest.raises(OSError, match=r".") as found:
            backend.kernels.SharedMemory(file.fileno(), 1 << 47, True)  # all addresses
        assert found.value.errno == errno.ENOMEM
    for call, match in ((memory.use_large_pages, "8193 bytes of 8192"), (memory.discard, "byte 8193 of 8192")):
        with pytest.raises(ValueError, match=match):
            call(8193)
    memory.use_large_pages(8192)
    np.frombuffer(memory, np.uint8)[:] = 1
    memory.discard(4096)
    assert np.frombuffer(memory, np.uint8)[:4096].all()


@pytest.mark.parametrize(
    ("which", "wrong", "match"),
    [
        (0, np.zeros((4, 6), "f4")[:, ::2], "native floats"),
        (0, np.zeros((8, 3), "f4")[::2], "lie side by side"),
        (6, np.zeros((5, 3), "f4"), "lie side by side"),
        (6, np.zeros((4, 6), "f4")[:, ::2], "of its dtype"),
        (6, np.zeros((4, 3), "f8"), "of its dtype"),
        (3, np.zeros(6, np.uint32), "power of two, got 6"),
        (3, np.zeros(0, np.uint32), "power of two, got 0"),
        (1, np.zeros(2, np.uint64), "sequence"),
        (5, np.zeros(3, np.int64), "journal_rows"),
    ],
)
def test_parts_that_do_not_fit(which, wrong, match):
    arrays = parts()
    arrays[which] = wrong
    with pytest.raises(ValueError, match=match):
        backend.kernels.SharedRows(*arrays)


def test_results_and_rows_that_do_not_fit():
    arrays = parts(dtype="f2")
    rows, before = backend.kernels.SharedRows(*arrays), arrays[0].copy()
    with pytest.raises(ValueError, match="dtype of the rows does not match the table"):
        rows.gather(np.zeros(2, np.int64), np.zeros((2, 3), "f4"), "raise")
    for out in (
        np.zeros((2, 3), "f4"),
        np.zeros((1, 3), "f2"),
        np.zeros((2, 2), "f2"),
        np.zeros(6, "f2"),
        np.zeros((2, 6), "f2")[:, ::2],
    ):
        with pytest.raises(ValueError, match="shape or dtype of the result does not match the rows"):
            rows.read_at_once(np.zeros(2, np.int64), out)
    for row in (-1, 4):
        with pytest.raises(ValueError, match=f"row {row} is not in a table of 4 rows"):
            rows.read_at_once(np.array([0, row]), np.zeros((2, 3), "f2"))
    for source in (before.astype("f4"), before[:3], before[:, :2]):
        with pytest.raises(ValueError, match="shape or dtype of the source does not match the shared table"):
            rows.publish(source, np.zeros(1, np.int64))
    for given in ([4], [-2], [2, 1]):
        with pytest.raises(ValueError, match="is not in its place in a list for a table of 4 rows"):
            rows.publish(before + 1, np.array(given))
    assert (arrays[0] == before).all()
    rows.publish(before + 1, np.array([-1, 1, 1, 3]))
    assert (arrays[0] - before).any(axis=1).tolist() == [False, True, False, True]


def test_a_table_that_is_only_read():
    arrays = parts()
    arrays[0].flags.writeable = False
    rows = backend.kernels.SharedRows(*arrays)
    for call in (lambda: rows.set_replaced(True), lambda: rows.publish(arrays[0] + 1, np.zeros(1, np.int64))):
        with pytest.raises(ValueError, match="a shared table that is only read"):
            call()
    assert not rows.is_replaced
