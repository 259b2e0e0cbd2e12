"""Large pages: values and places stay, and what cannot be moved is refused or left."""

import mmap

import numpy as np
import pytest

import fastembed as fe


def test_values_and_place_stay_and_the_pages_are_large_where_linux_says_so():
    memory = mmap.mmap(-1, 8 << 20)  # pages of 4 KB, unless the system gives large ones to all
    array = np.frombuffer(memory, np.float32)
    array[:] = np.arange(array.size)
    place = array.ctypes.data
    is_large = fe.use_large_pages(array)
    assert isinstance(is_large, bool)
    assert array.ctypes.data == place
    assert np.array_equal(array, np.arange(array.size, dtype=np.float32))
    del array


def test_small_and_empty_arrays_are_left_alone():
    assert not fe.use_large_pages(np.zeros((0, 4)))
    assert not fe.use_large_pages(np.zeros((1 << 10, 4)))


def test_memory_of_a_file_is_left_alone(tmp_path):
    table = np.memmap(tmp_path / "table", np.float32, "w+", shape=(1 << 19, 4))
    table[:] = 3
    assert not fe.use_large_pages(table)
    assert (table == 3).all()


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        ([[1.0]], TypeError, "array must be a NumPy array, got list"),
        (np.zeros((4, 4))[:, ::2], ValueError, r"array must be contiguous, got strides \(32, 16\) for shape \(4, 2\)"),
        (np.ma.masked_array([1.0]), TypeError, "masked"),
    ],
)
def test_what_is_no_memory_of_rows_is_refused(array, error, message):
    with pytest.raises(error, match=message):
        fe.use_large_pages(array)
