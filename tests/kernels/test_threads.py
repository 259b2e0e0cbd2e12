"""Many callers, resizes, exits, signals, no memory for workers: all safe."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from common import needs_c, same_bits
from shared_look_up import a_look_up, needs_thread_attributes, output_of, status_of_c

import fastembed as fe

pytestmark = needs_c


def test_a_bad_id_is_found_first_in_order_by_any_number_of_threads():
    wte, wpe = np.zeros((10, 64)), np.zeros((5, 64))
    ids = np.zeros(300_000, np.int64)
    ids[[299_999, 150_000, 70_000]] = 10, -1, 99
    for n in (1, 2, 8):
        with fe.threads(n):
            for call in (
                lambda: fe.gather(wte, ids),
                lambda: fe.gather_add(wte, ids, wpe, 7),
                lambda: fe.scatter_add(wte, ids, 1.0),
                lambda: fe.gather_add_backward(np.broadcast_to(np.ones(64), (300_000, 64)), ids, wte, wpe, 0),
            ):
                with pytest.raises(IndexError, match=r"id 99 at position \(70000,\)"):
                    call()
    assert not wte.any()


def test_many_callers_at_once():
    wrong = []

    def work():
        for _ in range(10):
            if not a_look_up(3):
                wrong.append(1)

    before = fe.get_num_threads()
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fe.set_num_threads(before)
    assert not wrong


def test_many_callers_that_add_at_once():
    """Each to a table of its own, in more strips than there are free threads."""
    rng = np.random.default_rng(0)
    ids, values = rng.integers(0, 50, 2_000), rng.random((2_000, 200), np.float32)
    expected, tables = np.zeros((50, 200), np.float32), np.zeros((6, 50, 200), np.float32)
    with fe.threads(1):
        for _ in range(5):
            fe.scatter_add(expected, ids, values)
    with fe.threads(3):
        callers = [
            threading.Thread(target=lambda table=table: [fe.scatter_add(table, ids, values) for _ in range(5)])
            for table in tables
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert all(same_bits(table, expected) for table in tables)


@pytest.mark.parametrize("layer", ["fe.Embedding(100_000, 64, rng=0)", "fe.TokenPositionEmbedding(100_000, 500, 64, rng=0)"])
def test_a_layer_that_is_resized_while_others_look_up(layer):
    """A call reads the table that it began with, whose memory stays for so long."""
    script = f"""
import threading, time, numpy as np, fastembed as fe
layer, ids, end = {layer}, np.arange(100_000).reshape(200, 500) % 1000, time.monotonic() + 1.5
def read():
    while time.monotonic() < end:
        layer(ids)
def resize():
    while time.monotonic() < end:
        layer.resize(1000)
        layer.resize(100_000)
threads = [threading.Thread(target=work) for work in (read, read, resize)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done", flush=True)
"""
    assert output_of(script) == "done\n"


def test_an_exit_with_calls_in_flight():
    script = """
import threading, time, numpy as np, fastembed as fe
fe.set_num_threads(4)
table, ids = np.ones((1000, 512), "f4"), np.zeros(100_000, int)
def work():
    while True:
        fe.gather(table, ids)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
print("leaving", flush=True)
"""
    for _ in range(3):
        assert output_of(script) == "leaving\n"


@needs_thread_attributes
def test_workers_that_cannot_be_created():
    """No space for a thread's stack: the caller does all of the work."""
    script = """
from shared_look_up import a_look_up, n_threads_now, no_more_threads
before = n_threads_now()
no_more_threads()
print(a_look_up(8), n_threads_now() - before)
"""
    assert output_of(script) == "True 0\n"


@pytest.mark.uninstrumented
@pytest.mark.parametrize(("n_threads", "width"), [(1, 64), (1, 0), (2, 0)])
def test_control_c_ends_a_long_look_up(n_threads, width):
    """Within 0.2 s of a signal its handler runs: while rows are copied, and while ids are checked.

    Signals and delays are in processor time, since the processor may be shared: a signal after each
    0.05 s of the process, and the time that the main thread has had between two runs of its
    handler.
    """
    script = """
import signal, sys, time, numpy as np, fastembed as fe
n_threads, width = map(int, sys.argv[1:])
times = []
def handler(number, frame):
    times.append(time.thread_time())
    if len(times) == 6:
        signal.default_int_handler(number, frame)
fe.set_num_threads(n_threads)
table = np.ones((1000, width), "f4")
ids = np.broadcast_to(np.zeros(1000, np.int8), (20_000_000, 1000))
out = np.lib.stride_tricks.as_strided(np.empty((1000, width), "f4"), ids.shape + (width,), (0, 4 * width, 4))
signal.signal(signal.SIGPROF, handler)
times.append(time.thread_time())
signal.setitimer(signal.ITIMER_PROF, 0.05, 0.05)
try:
    fe._kernels.backend.kernels.gather(table, ids, out, "raise")
except KeyboardInterrupt:
    signal.setitimer(signal.ITIMER_PROF, 0)
    times.append(time.thread_time())
    print("interrupted", all(after - before < 0.25 for before, after in zip(times, times[1:])))
assert fe.gather(table, [1, 2]).shape == (2, width)
"""
    command = [sys.executable, "-c", script, str(n_threads), str(width)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.stdout == "interrupted True\n", result.stdout + result.stderr


@needs_thread_attributes
def test_signals_are_taken_although_the_clock_is_set_back(tmp_path):
    """By an hour at each look: a call goes on to ask whether it shall stop."""
    program = r"""
#include "pool.c"
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static time_t hours = 0;
int clock_gettime(clockid_t clock, struct timespec *now)
{
    const int status = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec -= 3600 * ++hours;
    return status;
}
int timespec_get(struct timespec *now, int base)
{
    return clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}
static fe_status piece(const void *work, int64_t number)
{
    (void)work, (void)number;
    usleep(2000);
    return (fe_status){.code = FE_OK};
}
static int stop(void)
{
    return 1;
}
int main(void)
{
    return fe_pool_run(piece, NULL, 1000, stop).code != FE_STOPPED;
}
"""
    assert status_of_c(program, tmp_path) == 0


def test_signals_stay_with_the_caller():
    """A worker takes no signal: the handler runs although workers are waiting."""
    caught = []
    before = signal.signal(signal.SIGUSR1, lambda *_: caught.append(threading.current_thread()))
    try:
        with fe.threads(4):
            assert a_look_up(4)
        os.kill(os.getpid(), signal.SIGUSR1)
        deadline = time.monotonic() + 60
        while not caught and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught == [threading.main_thread()]
