"""Rows of files below the tables: reads that fail or hang, signals, forks, what is refused."""

import ctypes
import mmap
import os
import threading
import time

import numpy as np
import pytest
from common import needs_c, outcome
from shared_look_up import needs_thread_attributes, output_of

from fastembed._kernels.backend import kernels

pytestmark = [needs_c, pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs Linux")]

PAGE = mmap.PAGESIZE
ENGINES = pytest.mark.parametrize("may_use_uring", [True, False], ids=["io_uring", "pread"])


def hold(rows, *numbers):
    slots = np.empty(len(numbers), np.int32)
    return rows.hold(np.array(numbers, np.int64), slots), slots


@pytest.fixture
def half_readable(tmp_path):
    """A file and a place in it where two pages can be read, and the next is an error (EIO): memory
    mapped from a file that was cut behind its second page."""
    with open(tmp_path / "cut", "w+b") as cut:
        cut.write(b"\5" * 3 * PAGE)
        cut.flush()
        mapped = mmap.mmap(cut.fileno(), 3 * PAGE)
        cut.truncate(2 * PAGE)
    file = os.open("/proc/self/mem", os.O_RDONLY)
    yield file, ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    os.close(file)


@ENGINES
def test_an_error_is_that_of_the_row_alone(half_readable, may_use_uring):
    """Rows of half a page: four can be read, two cannot, in one read of neighbouring pages."""
    file, start = half_readable
    cache = np.zeros((64, PAGE // 2), np.uint8)
    rows = kernels.DiskRows(cache, [(PAGE // 2, [(file, start, 6)])], 8, may_use_uring)
    for _ in range(2):
        assert hold(rows, 0, -1, 5, 3, 4, 5)[0] == (5, 2)  # EIO of item 2
    assert rows.statistics()["failed"] == 4
    failed, slots = hold(rows, 0, -1, 3, 0)
    assert failed is None
    assert (cache[slots[[0, 2, 3]]] == 5).all()
    assert slots[1] == -1
    rows.release(slots)
    rows.prefetch(np.array([4, 5]))
    while rows.statistics()["failed"] < 6:
        time.sleep(0.001)
    assert hold(rows, 4)[0] == (5, 0)
    rows.close()


@ENGINES
def test_rows_of_two_parts_fail_by_either(half_readable, may_use_uring):
    file, start = half_readable
    parts = [(4, [(file, start, 8)]), (PAGE, [(file, start, 1), (file, start + PAGE, 7)])]
    cache = np.zeros((64, PAGE + 4), np.uint8)
    rows = kernels.DiskRows(cache, parts, 8, may_use_uring)
    assert hold(rows, 1, 2)[0] == (5, 1)
    failed, slots = hold(rows, 1, 0)
    assert failed is None
    assert (cache[slots] == 5).all()
    rows.close()


@ENGINES
def test_rows_are_released_with_what_holds_them(tmp_path, may_use_uring):
    """A signal between the return of a call and the caller's next step would leave them held."""
    (tmp_path / "rows").write_bytes(b"\5" * 64 * PAGE)
    with open(tmp_path / "rows", "rb") as file:
        rows = kernels.DiskRows(np.zeros((64, PAGE), np.uint8), [(PAGE, [(file.fileno(), 0, 64)])], 8, may_use_uring)
        for k in range(20):  # two that are left held fill what calls may hold
            kernels.HeldRows(rows, np.arange(k, k + 16), np.empty(16, np.int32))
        held = kernels.HeldRows(rows, np.arange(16), np.empty(16, np.int32))
        held.release()
        held.release()
        assert hold(rows, 60)[0] is None
        rows.close()


def test_closing_ends_look_ups_that_wait_for_their_turn(tmp_path):
    """Two others hold the half of the slots that calls may hold."""
    (tmp_path / "rows").write_bytes(b"\5" * 64 * PAGE)
    with open(tmp_path / "rows", "rb") as file:
        rows = kernels.DiskRows(np.zeros((64, PAGE), np.uint8), [(PAGE, [(file.fileno(), 0, 64)])], 8, True)
        assert [hold(rows, *range(first, first + 16))[0] for first in (0, 16)] == [None, None]
        found = []
        thread = threading.Thread(target=lambda: found.append(outcome(hold, rows, 40)))
        thread.start()
        time.sleep(0.1)
        assert not found
        rows.close()
        thread.join()
    closed = ("raised", ValueError, "the table is closed")
    assert found == [closed]
    assert outcome(hold, rows, 3) == closed
    skipped = rows.statistics()["skipped"]
    rows.prefetch(np.arange(5))
    assert rows.statistics()["skipped"] == skipped + 5


ROWS_OF_A_FILE = """
import os, resource, sys, threading, time
import numpy as np
from fastembed._kernels.backend import kernels
from shared_look_up import n_threads_now, no_more_threads
data = np.arange(100_000, dtype=np.int64).reshape(-1, 10)
data.tofile(sys.argv[1])
file = os.open(sys.argv[1], os.O_RDONLY)
cache = np.zeros((64, 80), np.uint8)
def open_rows(may_use_uring=True):
    return kernels.DiskRows(cache, [(80, [(file, 0, 10_000)])], 8, may_use_uring)
def look_up(rows, *numbers):
    slots = np.empty(len(numbers), np.int32)
    assert rows.hold(np.array(numbers), slots) is None
    same = np.array_equal(cache[slots].view(np.int64), data[list(numbers)])
    rows.release(slots)
    print(same, rows.statistics()["engine"])
"""


def on_file(tmp_path, body):
    """What a script prints that reads rows of a file."""
    script = ROWS_OF_A_FILE.replace("sys.argv[1]", repr(str(tmp_path / "rows")))
    return output_of(script + body)


@pytest.mark.parametrize("n_rows", [3, 16])
def test_a_ring_that_somebody_closes_is_replaced(needs_uring, tmp_path, n_rows):
    body = f"""
rows = open_rows()
for k in range(3):
    look_up(rows, *(np.arange({n_rows}) * 300 + k))
    os.closerange(file + 1, 100)
"""
    assert on_file(tmp_path, body) == "True io_uring\nTrue pread\nTrue pread\n"


def test_no_ring_can_be_had(needs_uring, tmp_path):
    """The process has as many files open as it may: at the opening, or when a thread starts."""
    body = """
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
with_ring = open_rows()
resource.setrlimit(resource.RLIMIT_NOFILE, (file + 1, limits[1]))
for rows in (open_rows(), with_ring):
    look_up(rows, 3, 999, 3, 5000)
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
"""
    assert on_file(tmp_path, body) == "True pread\nTrue pread\n"


@ENGINES
@needs_thread_attributes
def test_no_thread_can_be_had(may_use_uring, tmp_path):
    """There is no space for its stack: the caller reads, and nothing is prefetched."""
    body = f"""
go_on = threading.Event()
def wait_for_a_turn():
    go_on.wait()
    look_up(rows, 7_000)
thread = threading.Thread(target=wait_for_a_turn)
thread.start()
before = n_threads_now()
no_more_threads()
rows = open_rows({may_use_uring})
rows.prefetch(np.arange(7))
for numbers in ((3, 9_999, 5_000, 3), range(16)):
    look_up(rows, *numbers)
slots = np.empty((2, 16), np.int32)
for k in range(2):
    assert rows.hold(np.arange(16) + 100 * k, slots[k]) is None
go_on.set()
time.sleep(0.1)
print(rows.statistics()["prefetched"], n_threads_now() - before, flush=True)
for of_call in slots:
    rows.release(of_call)
thread.join()
rows.close()
"""
    engine = "io_uring" if may_use_uring else "pread"
    assert on_file(tmp_path, body) == f"True {engine}\nTrue {engine}\n0 0\nTrue {engine}\n"


def while_forking(tmp_path, may_use_uring, body):
    """What a script prints that forks while many rows of a file are read."""
    script = f"""
import os, signal, sys, threading, time
import numpy as np
from fastembed._kernels.backend import kernels
data = np.random.default_rng(0).integers(0, 256, (20_000, 300), np.uint8)
data.tofile({str(tmp_path / "f")!r})
file = os.open({str(tmp_path / "f")!r}, os.O_RDONLY)
cache = np.zeros((2000, 300), np.uint8)
rows = kernels.DiskRows(cache, [(300, [(file, 0, 20_000)])], 16, {may_use_uring})
"""
    return output_of(script + body, "-W", "ignore")


@pytest.mark.fork
@pytest.mark.fork_beside_threads
@ENGINES
def test_forks_while_rows_are_read(may_use_uring, tmp_path):
    body = """
stop = threading.Event()
def look_up(seed):
    numbers, slots = np.random.default_rng(seed).integers(0, 20_000, 200), np.empty(200, np.int32)
    assert rows.hold(numbers, slots) is None
    same = np.array_equal(cache[slots], data[numbers])
    rows.release(slots)
    return same
def work(seed):
    while not stop.is_set():
        assert look_up(seed)
        rows.prefetch(np.random.default_rng(seed).integers(0, 20_000, 300))
        seed += 7
threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(2)]
[thread.start() for thread in threads]
for k in range(10):
    pid = os.fork()
    if pid == 0:
        good = look_up(k) and look_up(k + 100) and look_up(k)
        rows.prefetch(np.arange(100))
        rows.close()
        sys.exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
[thread.join() for thread in threads]
print("done")
"""
    assert while_forking(tmp_path, may_use_uring, body) == "done\n"


@pytest.mark.fork
@ENGINES
def test_forks_while_rows_are_read_ahead(may_use_uring, tmp_path):
    """Nobody waits for these rows in the parent; the child reads them itself."""
    body = """
for k in range(40):
    numbers, slots = np.arange(300 * k, 300 * k + 300), np.empty(300, np.int32)
    rows.prefetch(numbers)
    time.sleep(k % 20 * 2e-5)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # for a child that waits for good
        sys.exit(0 if rows.hold(numbers, slots) is None and np.array_equal(cache[slots], data[numbers]) else 1)
    assert os.waitpid(pid, 0)[1] == 0
print("done")
"""
    assert while_forking(tmp_path, may_use_uring, body) == "done\n"


@pytest.mark.fork
@ENGINES
def test_a_fork_while_nothing_is_read(may_use_uring, tmp_path):
    """The child keeps what the cache has, and reads the rest with threads of its own."""
    body = f"""
rows = open_rows({may_use_uring})
look_up(rows, 3, 999)
while rows.statistics()["reads"] < 2:
    time.sleep(0.001)
time.sleep(0.1)  # the threads are idle
sys.stdout.flush()
if os.fork() == 0:
    look_up(rows, 3, 999, 5_000)
    print(rows.statistics()["hits"], rows.statistics()["misses"])
    sys.exit()
print(os.wait()[1])
"""
    engine = "io_uring" if may_use_uring else "pread"
    assert on_file(tmp_path, body) == f"True {engine}\nTrue {engine}\n2 3\n0\n"


def test_what_is_refused():
    cache = np.zeros((64, 8), np.uint8)
    good = [(8, [(0, 0, 10)])]
    for arguments, text in (
        ((cache, [], 8), "at least one part"),
        ((cache, good, 0), "at least one part"),
        ((cache[:3], good, 8), "four slots"),
        ((cache, [(7, [(0, 0, 10)])], 8), "the parts make a row"),
        ((cache, [(9, [(0, 0, 10)])], 8), "fits into the cache"),
        ((cache, [(8, [])], 8), "has segments"),
        ((cache, [(8, [(0, -1, 10)])], 8), "within what a file can hold"),
        ((cache, [(8, [(0, 0, 0)])], 8), "within what a file can hold"),
        ((cache[:, ::2], [(4, [(0, 0, 10)])], 8), "shape or dtype of cache"),
        ((cache.view(np.int8), good, 8), "shape or dtype of cache"),
    ):
        kind, error, message = outcome(kernels.DiskRows, *arguments, True)
        assert (kind, error) == ("raised", ValueError)
        assert text in message
    rows = kernels.DiskRows(cache, good, 8, True)
    assert outcome(rows.hold, np.zeros(17, np.int64), np.zeros(17, np.int32))[2] == "a call holds a quarter of the slots at most"
    assert "shape or dtype of slots" in outcome(rows.hold, np.zeros(2, np.int64), np.zeros(3, np.int32))[2]
    assert "shape or dtype of rows" in outcome(rows.prefetch, np.zeros(2, np.int32))[2]
