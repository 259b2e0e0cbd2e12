"""Look-ups in files of which reads hang: signals, forks, closing, slots that are all in use."""

import os

import pytest
from common import needs_c
from shared_look_up import output_of

pytestmark = [needs_c, pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs Linux")]


def on_pipe(body, *options):
    """What a script prints in which reads hang until something is written into a pipe."""
    return output_of(
        f"""
import os, signal, sys, threading, time
import numpy as np
from fastembed._kernels.backend import kernels
out, into = os.pipe()
rows = kernels.DiskRows(np.zeros((64, 4096), np.uint8), [(4096, [(out, 0, 1000)])], 8, True)
assert rows.statistics()["engine"] == "io_uring", "none here"
slots = np.empty(2, np.int32)
def later(seconds, call, *arguments):
    timer = threading.Timer(seconds, call, arguments)
    timer.daemon = True
    timer.start()
def has(name, number):
    return rows.statistics()[name] >= number
def wait_until(is_so, *arguments):
    while not is_so(*arguments):
        time.sleep(0.001)
def interrupt_at(n_misses):
    wait_until(has, "misses", n_misses)
    os.kill(os.getpid(), signal.SIGINT)
{body}
""",
        *options,
    )


@pytest.mark.untraced
def test_a_signal_ends_a_look_up_that_hangs(needs_uring):
    body = """
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    later(0.1, interrupt_at, 2)
    rows.hold(np.array([1, 3]), slots)
except KeyboardInterrupt:
    print("interrupted")
later(0.1, os.write, into, b"x" * 8192)
rows.close()
print("closed")
"""
    assert on_pipe(body) == "interrupted\nclosed\n"


def test_closing_ends_look_ups_of_other_threads(needs_uring):
    body = """
def look_up():
    try:
        rows.hold(np.array([1, 3]), slots)
    except ValueError as error:
        print(error)
thread = threading.Thread(target=look_up)
thread.start()
wait_until(has, "misses", 2)
later(0.1, os.write, into, b"x" * 8192)
rows.close()
thread.join(300)
print(thread.is_alive())
"""
    assert on_pipe(body) == "the table is closed\nFalse\n"


def test_an_interpreter_ends_while_reads_hang(needs_uring):
    body = """
rows.prefetch(np.array([1, 3]))
wait_until(has, "prefetched", 2)
print("end", flush=True)
os._exit(0)
"""
    assert on_pipe(body) == "end\n"


# All 64 slots are being read, for look-ups that were interrupted. No two rows are neighbours, which
# would be one read.
NO_SLOT = """
signal.signal(signal.SIGINT, signal.default_int_handler)
slots = np.empty(16, np.int32)
def interrupted(first):
    try:
        later(0.1, interrupt_at, min(first + 16, 64))
        rows.hold(np.arange(first, first + 16) * 3, slots)
    except KeyboardInterrupt:
        print(rows.statistics()["misses"], rows.statistics()["evicted"], flush=True)
for first in range(0, 64, 16):
    interrupted(first)
"""
NO_SLOT_OUTPUT = "16 0\n32 0\n48 0\n64 0\n"


@pytest.mark.untraced
def test_a_look_up_waits_while_all_slots_are_being_read(needs_uring):
    assert on_pipe(NO_SLOT + "interrupted(64)\nos._exit(0)") == NO_SLOT_OUTPUT + "64 0\n"


# Eight of the reads have ended.
EIGHT_HAVE_ENDED = """
os.write(into, b"x" * 4096 * 8)
wait_until(has, "reads", 8)
"""


@pytest.mark.untraced
def test_closing_ends_look_ups_that_wait_for_a_slot(needs_uring):
    """Rows that have got one are not read any more."""
    body = """
def look_up():
    try:
        rows.hold(np.arange(90, 100) * 3, slots[:10])
    except ValueError as error:
        print(error, rows.statistics()["misses"], flush=True)
thread = threading.Thread(target=look_up)
thread.start()
wait_until(has, "misses", 72)
later(0.1, os.write, into, b"x" * 4096 * 8)
rows.close()
thread.join(300)
print(thread.is_alive())
"""
    assert on_pipe(NO_SLOT + EIGHT_HAVE_ENDED + body) == NO_SLOT_OUTPUT + "the table is closed 72\nFalse\n"


@pytest.mark.untraced
def test_a_prefetch_leaves_out_rows_for_which_there_is_no_slot(needs_uring):
    """Its turn comes when eight of the reads have ended."""
    body = """
wait_until(has, "prefetched", 1)
print(rows.statistics()["prefetched"], rows.statistics()["evicted"], flush=True)
later(0.1, os.write, into, b"x" * 4096 * 8)
rows.close()
"""
    prefetch = "rows.prefetch(np.arange(80, 96) * 3)"
    assert on_pipe(NO_SLOT + prefetch + EIGHT_HAVE_ENDED + body) == NO_SLOT_OUTPUT + "8 8\n"


@pytest.mark.fork
@pytest.mark.untraced
@pytest.mark.parametrize("waits_for", ["reads", "a slot"])
def test_a_signal_handler_that_forks_during_a_look_up(waits_for, needs_uring):
    """The child has none of the parent's reads: its call ends, and the parent's goes on.

    The first signal that is taken within the look-up forks: Python takes none between the return
    from a function of its own and a call of C. There is nothing to read before that.
    """
    body = """
children, has_begun, n_bytes = [], False, 4096 * (rows.statistics()["misses"] + 2)
def begin(numbers):
    global has_begun
    has_begun = True
    return numbers
def fork(*_):
    global has_begun
    if has_begun:
        has_begun = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        children.append(os.fork())
def write_after_the_fork():
    wait_until(lambda: children)
    os.write(into, b"x" * n_bytes)
signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
later(0, write_after_the_fork)
numbers, slots = np.array([301, 303]), slots[:2]
try:
    print(rows.hold(begin(numbers), slots), os.waitpid(children[0], 0)[1])
except ValueError as error:
    print(error)
    sys.exit(children[0])
rows.close()
"""
    before, output = (NO_SLOT, NO_SLOT_OUTPUT) if waits_for == "a slot" else ("", "")
    assert on_pipe(f"{before}\n{body}", "-W", "ignore") == f"{output}the table is closed\nNone 0\n"
