"""The same bits for every instruction set and number of threads; forks, many callers, signals, exits: all safe."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from common import DTYPES, floats, same_bits

import fastembed as fe
from fastembed._kernels import backend

pytestmark = pytest.mark.skipif(backend.name != "c", reason="the reference has one thread and no instruction set")

ISAS = backend.kernels.build_info()["isa_available"]


@pytest.fixture
def isa():
    """A function that chooses an instruction set, for the length of a test."""
    before = backend.kernels.build_info()["isa"]
    yield backend.kernels.select_isa
    backend.kernels.select_isa(before)


def problems(rng, dtype):
    """Tables, ids, some of them far outside, and gradients: small, large, odd, narrow, wide, streamed and split."""
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
            found += [fe.gather(wte, ids), fe.gather_add(wte, ids, wpe), out, dwte, dwpe, table]
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_threads_or_instruction_set(isa, dtype):
    drawn = list(problems(np.random.default_rng(0), dtype))
    isa("baseline")
    with fe.threads(1):
        expected = results(drawn)
    for name in ISAS:
        isa(name)
        for n in (1, 2, 3, 8, 64):
            with fe.threads(n):
                assert all(same_bits(a, b) for a, b in zip(results(drawn), expected, strict=True)), (name, n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_results_are_right_at_every_alignment(isa, dtype):
    """Results beyond 16 MiB are written past the cache, in whole lines with loose ends before and after."""
    rng = np.random.default_rng(1)
    width = 700
    wte, wpe = floats(rng, (50, width), dtype), floats(rng, (64, width), dtype)
    n = (1 << 24) // (width * wte.itemsize) // 64 + 2
    ids = rng.integers(0, 50, (n, 64))
    with np.errstate(all="ignore"):
        expected = wte[ids] + wpe
    assert expected.nbytes > 1 << 24
    for name in ISAS:
        isa(name)
        for offset in (0, 1, 3, 15):
            memory = np.full(expected.size + n * 64 * 5 + 16, 7, dtype)
            rows = memory[offset : offset + n * 64 * (width + 5)].reshape(n, 64, width + 5)
            fe.gather_add(wte, ids, wpe, out=rows[..., :width])
            assert same_bits(rows[..., :width], expected)
            fe.gather(wte, ids, out=rows[..., :width])
            assert same_bits(rows[..., :width], wte[ids])
            assert np.all(rows[..., width:] == 7)
            assert np.all(memory[:offset] == 7)


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


def a_look_up(n_threads):
    """A call that several threads share, and whether its result is right."""
    fe.set_num_threads(n_threads)
    table = np.arange(4000 * 256, dtype="f4").reshape(4000, 256)
    ids = np.arange(20_000) * 7 % 4000
    dwte, dwpe = np.zeros((4000, 256), "f4"), np.zeros((1, 256), "f4")
    fe.gather_add_backward(table[ids], ids, dwte, dwpe, 0)
    return same_bits(fe.gather(table, ids), table[ids]) and same_bits(dwte, table * 5)


def in_child(n_threads, queue):
    queue.put(a_look_up(n_threads))


@pytest.mark.fork
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("first_use", ["child", "parent"])
def test_a_forked_child_computes(first_use):
    script = f"""
import multiprocessing, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_threads import a_look_up, in_child
if {first_use!r} == "parent":
    assert a_look_up(4)
context = multiprocessing.get_context("fork")
queue = context.Queue()
children = [context.Process(target=in_child, args=(4, queue)) for _ in range(3)]
[child.start() for child in children]
print([queue.get(timeout=60) for _ in children], a_look_up(4))
[child.join(60) for child in children]
"""
    assert output_of(script) == "[True, True, True] True\n"


@pytest.mark.fork
def test_a_fork_while_other_threads_compute():
    script = f"""
import os, sys, threading, time
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_threads import a_look_up
stop = threading.Event()
def work():
    while not stop.is_set():
        assert a_look_up(4)
threads = [threading.Thread(target=work) for _ in range(3)]
[t.start() for t in threads]
for _ in range(10):
    time.sleep(0.02)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if a_look_up(4) else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
[t.join() for t in threads]
print("done")
"""
    assert output_of(script, "-W", "ignore") == "done\n"


def output_of(script, *options):
    result = subprocess.run([sys.executable, *options, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


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


@pytest.mark.uninstrumented
def test_workers_that_cannot_be_created():
    """No memory for a thread's stack of 1 GiB: the caller does all of the work."""
    script = f"""
import resource, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_threads import a_look_up
a_look_up(1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), resource.RLIM_INFINITY))
print(a_look_up(8), open("/proc/self/status").read().split("Threads:")[1].split()[0])
"""
    command = ["bash", "-c", 'ulimit -s 1048576 && exec "$@"', "bash", sys.executable, "-c", script]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout == "True 1\n", result.stderr


@pytest.mark.parametrize(("n_threads", "width"), [(1, 64), (1, 0), (2, 0)])
def test_control_c_ends_a_long_look_up(n_threads, width):
    """Within 0.2 s of the signal, of a call that takes many seconds: while rows are copied, and while ids are checked.

    Of its own processor's time, since others may have the processor; by the clock it is far less than the call would take.
    """
    script = """
import os, signal, sys, threading, time, numpy as np, fastembed as fe
n_threads, width = map(int, sys.argv[1:])
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
fe.set_num_threads(n_threads)
table = np.ones((1000, width), "f4")
ids = np.broadcast_to(np.zeros(1000, np.int8), (20_000_000, 1000))
out = np.lib.stride_tricks.as_strided(np.empty((1000, width), "f4"), ids.shape + (width,), (0, 4 * width, 4))
sent, main = [], time.pthread_getcpuclockid(threading.get_ident())
def send():
    sent.extend((time.clock_gettime(main), time.monotonic()))
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(0.3, send).start()
try:
    fe._kernels.backend.kernels.gather(table, ids, out, "raise")
except KeyboardInterrupt:
    print("interrupted", time.clock_gettime(main) - sent[0] < 0.2, time.monotonic() - sent[1] < 2)
assert fe.gather(table, [1, 2]).shape == (2, width)
"""
    command = [sys.executable, "-c", script, str(n_threads), str(width)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout == "interrupted True True\n", result.stdout + result.stderr


def test_signals_stay_with_the_caller():
    """A worker takes no signal: the handler runs although workers are waiting."""
    caught = []
    before = signal.signal(signal.SIGUSR1, lambda *_: caught.append(threading.current_thread()))
    try:
        with fe.threads(4):
            assert a_look_up(4)
        os.kill(os.getpid(), signal.SIGUSR1)
        deadline = time.monotonic() + 5
        while not caught and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught == [threading.main_thread()]


def test_the_number_of_threads():
    before = fe.get_num_threads()
    with fe.threads(5):
        assert fe.get_num_threads() == 5
        assert fe.show_config()["num_threads"] == 5
        with pytest.raises(RuntimeError), fe.threads(3):
            raise RuntimeError
        assert fe.get_num_threads() == 5
    assert fe.get_num_threads() == before
    for bad in (0, -1, 1025):
        with pytest.raises(ValueError, match=r"n must be from"):
            fe.set_num_threads(bad)
    with pytest.raises(TypeError, match=r"n must be an integer, got 1\.5"):
        fe.set_num_threads(1.5)
    assert fe.get_num_threads() == before


def environment_says(**environment):
    script = "import fastembed as fe; c = fe.show_config(); print(c['num_threads'], c['isa'])"
    return subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_the_environment_decides():
    assert environment_says(FASTEMBED_NUM_THREADS="7").stdout.split()[0] == "7"
    for name in ISAS:
        assert environment_says(FASTEMBED_ISA=name).stdout.split()[1] == name
    assert environment_says(FASTEMBED_ISA="").stdout.split()[1] == ISAS[0]
    for bad in ("0", "many", "-2", "99999"):
        result = environment_says(FASTEMBED_NUM_THREADS=bad)
        assert f"ImportError: FASTEMBED_NUM_THREADS must be from 1 to 1024, got '{bad}'" in result.stderr
    result = environment_says(FASTEMBED_ISA="sse9")
    assert f"ImportError: FASTEMBED_ISA must be one of {', '.join(ISAS)}" in result.stderr
    unset = {k: v for k, v in os.environ.items() if not k.startswith("FASTEMBED_")}
    script = "import fastembed as fe; print(fe.get_num_threads())"
    one = subprocess.run(
        ["taskset", "-c", "0", sys.executable, "-c", script], env=unset, capture_output=True, text=True, check=False
    )
    if one.returncode == 0:  # taskset is there
        assert one.stdout == "1\n"


def test_a_subclass_may_have_a_call_of_its_own(monkeypatch):
    """Calls go past `__call__` only while it is the one that was inherited."""

    class Doubled(fe.TokenPositionEmbedding):
        def __call__(self, *args, **kwargs):
            return 2 * super().__call__(*args, **kwargs)

    class Heir(Doubled):
        pass

    plain = fe.TokenPositionEmbedding(5, 4, 3, dtype="float64", rng=0)
    expected = plain.wte[4] + plain.wpe[2]
    for cls in (Doubled, Heir):
        assert same_bits(cls.from_arrays(plain.wte, plain.wpe)(4, 2), 2 * expected)
    assert same_bits(plain(4, 2), expected)
    monkeypatch.setattr(fe.TokenPositionEmbedding, "__call__", lambda self, *args: "patched")
    assert plain(4, 2) == "patched"
    monkeypatch.undo()
    assert same_bits(plain(token_ids=4, position_ids=2), expected)
    with pytest.raises(TypeError):
        plain()
    with pytest.raises(TypeError):
        plain(1, 2, 3)
