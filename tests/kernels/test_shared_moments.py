"""Shared tables as a reader may find them: between two steps of the writer, or of one that was
killed."""

import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from common import c_compiler, needs_c, same_bits
from shared_parts import parts

from fastembed._kernels import backend

AT_REST, FILLING, WRITING = 4, 5, 6  # sequence numbers


def row_by_row(rows, ids, bounds="raise"):
    out = np.full((len(ids), 3), -7, "f4")
    assert rows.gather(np.array(ids), out, bounds)
    return out


@pytest.mark.on_reference
@pytest.mark.parametrize("journal_size", [3, 4, 100])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_what_a_writer_that_was_killed_has_left(journal_size, position):
    """It was writing rows 1, 5 and 6 of 8, with four versions: rows 1 and 5 share one. A row
    that it had not come to is as it was. Behind the rows of the journal there may be anything, and
    its size may be wrong."""
    arrays = parts(8, n_versions=4)
    table, sequence, _, versions, size, journal_rows, journal, at = arrays
    rows, after, found_by_rows = backend.kernels.SharedRows(*arrays), table.copy(), table.copy()
    which = [1, 5, 6]
    sequence[:], size[:], at[:] = WRITING, journal_size, position
    versions[:] = [0, 3 if position == 0 else 5 if position == 1 else 6, position == 2, 2]
    journal_rows[:] = [*which, 99, 99, 99, 99, 99]
    journal[:3] = after[which] = [[10, 11, 12], [50, 51, 52], [60, 61, 62]]
    found_by_rows[which[: position + 1]] = after[which[: position + 1]]
    table[which[:position]] = after[which[:position]]
    table[which[position], 0] = after[which[position], 0]  # half done
    for ids in ([5, 1], [1, 2, 3, 6, 6, 0, 7, 4], [0, 3]):
        assert same_bits(row_by_row(rows, ids), found_by_rows[ids])
    zero = np.zeros(3, "f4")
    assert same_bits(row_by_row(rows, [1, 8, 2], "zero"), np.stack([found_by_rows[1], zero, found_by_rows[2]]))
    for ids in ([5, 1], [1, 2, 3, 6, 6, 0, 7, 4], [0, 3]):
        found = np.empty((len(ids), 3), "f4")
        assert rows.read_at_once(np.array(ids), found)
        assert same_bits(found, after[ids])
    found = np.empty((8, 3), "f4")
    assert rows.read_at_once(None, found)
    assert same_bits(found, after)


@pytest.mark.on_reference
@pytest.mark.parametrize("numbers", [[2], None])
def test_rows_are_not_older_after_rows_of_one_moment(numbers):
    """The writer has written none of rows 1 and 2, which are in the journal. Rows of one moment are
    as in the journal, and so is each row that this reader looks up from then on: until the writer
    is done, and of its next publication again row by row."""
    arrays = parts(4)
    table, sequence, _, _, size, journal_rows, journal, at = arrays
    (rows, other), before, after = [backend.kernels.SharedRows(*arrays) for _ in range(2)], table.copy(), table.copy()
    sequence[:], size[:], at[:] = WRITING, 2, -1
    journal_rows[:2], journal[:2] = [1, 2], 9
    after[[1, 2]] = 9
    ids = [3, 2, 1, 0]
    assert same_bits(row_by_row(rows, ids), before[ids])
    found = np.empty((4 if numbers is None else 1, 3), "f4")
    assert rows.read_at_once(None if numbers is None else np.array(numbers), found)
    assert same_bits(found, after if numbers is None else after[numbers])
    assert same_bits(row_by_row(rows, ids), after[ids])
    assert same_bits(row_by_row(rows, [1, 8, 2], "zero"), np.array([[9] * 3, [0] * 3, [9] * 3], "f4"))
    assert same_bits(row_by_row(other, ids), before[ids])
    table[:], sequence[:] = after, WRITING + 4
    journal[:2] = 10
    assert same_bits(row_by_row(rows, ids), after[ids])


@pytest.mark.on_reference
@pytest.mark.parametrize("phase", [AT_REST, FILLING])
def test_a_journal_that_is_not_to_be_read(phase):
    """At rest it is of the last publication, and while it is filled it is half of the next one."""
    arrays = parts(4)
    rows = backend.kernels.SharedRows(*arrays)
    arrays[1][:], arrays[4][:], arrays[6][:] = phase, 4, 9
    arrays[5][:] = range(4)
    found = np.empty((4, 3), "f4")
    assert rows.read_at_once(None, found)
    assert same_bits(found, arrays[0])
    assert same_bits(row_by_row(rows, [3, 1]), arrays[0][[3, 1]])


@pytest.mark.on_reference
@pytest.mark.parametrize("journal_size", [-1, 0])
def test_a_journal_without_rows(journal_size):
    arrays = parts(4)
    rows = backend.kernels.SharedRows(*arrays)
    arrays[1][:], arrays[3][:], arrays[4][:] = WRITING, 1, journal_size
    arrays[6][:] = 9
    assert same_bits(row_by_row(rows, [0, 3]), arrays[0][[0, 3]])
    found = np.empty((4, 3), "f4")
    assert rows.read_at_once(None, found)
    assert same_bits(found, arrays[0])


@pytest.mark.on_reference
def test_rows_outside_of_the_table_in_a_journal():
    arrays = parts(4)
    rows, expected = backend.kernels.SharedRows(*arrays), arrays[0].copy()
    arrays[1][:], arrays[4][:], arrays[6][:] = WRITING, 3, 9
    arrays[5][:] = [-5, 2, 4, 0]
    expected[2] = 9
    found = np.empty((4, 3), "f4")
    assert rows.read_at_once(None, found)
    assert same_bits(found, expected)


@needs_c
def test_rows_are_whole_in_every_order_of_steps(tmp_path):
    program = tmp_path / "schedules"
    source, sources = Path(__file__).with_name("shared_schedules.c"), Path(__file__).parents[2] / "src_c"
    subprocess.run([c_compiler(), "-std=gnu11", "-O2", "-Wall", "-Werror", f"-I{sources}", source, "-o", program], check=True)
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[0]) > 10_000_000


@needs_c
@pytest.mark.races
@pytest.mark.parametrize("n_versions", [1, 64])
def test_rows_are_whole_while_a_thread_publishes(n_versions):
    """Each publication sets all elements of all rows to its number. A row is of the publication
    that is under way or of the one before: all before that have ended. None goes back."""
    arrays = parts(1024, n_cols=512, n_versions=n_versions)
    arrays[0][:] = 0
    rows, is_over = backend.kernels.SharedRows(*arrays), threading.Event()
    which, source = np.concatenate([np.full(40, -1), np.arange(1024)]), np.zeros_like(arrays[0])

    def publish():
        for number in range(1, 1 << 20):
            if is_over.is_set():
                break
            source[:] = number
            rows.publish(source, which)

    writer = threading.Thread(target=publish)
    writer.start()
    last, ids, out, n_read = np.zeros(1024), np.arange(1024) * 5 % 1024, np.empty((1024, 512), "f4"), 0
    try:
        while n_read < 200 or last.max() < 50:
            assert rows.gather(ids, out, "raise")
            assert (out == out[:, :1]).all()
            assert out.min() >= last.max() - 1
            assert (out[:, 0] >= last).all()
            last, n_read = out[:, 0].copy(), n_read + 1
            if rows.read_at_once(None, out):
                assert (out == out[0, 0]).all()
    finally:
        is_over.set()
        writer.join()
