"""A look-up that several threads share, and scripts in a process of their own."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from common import c_compiler, same_bits, with_path

import fastembed as fe

SOURCES = Path(__file__).parents[2] / "src_c"


def a_look_up(n_threads):
    """A call that several threads share, and whether its result is right."""
    fe.set_num_threads(n_threads)
    table = np.arange(4000 * 256, dtype="f4").reshape(4000, 256)
    ids = np.arange(20_000) * 7 % 4000
    dwte, dwpe = np.zeros((4000, 256), "f4"), np.zeros((1, 256), "f4")
    fe.gather_add_backward(table[ids], ids, dwte, dwpe, 0)
    return same_bits(fe.gather(table, ids), table[ids]) and same_bits(dwte, table * 5)


needs_thread_attributes = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux")


def no_more_threads():
    """From now on no thread can be started but by Python, for want of space for its stack."""
    libc, attributes = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    libc.pthread_attr_init(attributes)
    libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(1 << 47))
    assert libc.pthread_setattr_default_np(attributes) == 0


def n_threads_now():
    """How many threads this process has, without those of the kernel for io_uring."""
    names = [Path(f"/proc/self/task/{task}/comm").read_text() for task in os.listdir("/proc/self/task")]
    return len(names) - sum(name.startswith("iou-") for name in names)


def in_child(n_threads, queue):
    queue.put(a_look_up(n_threads))


def status_of_c(program, folder):
    """The status of a C program that may include the sources of the package."""
    (folder / "program.c").write_text(program)
    built = [c_compiler(), "-std=gnu11", f"-I{SOURCES}", folder / "program.c", "-o", folder / "program", "-pthread"]
    subprocess.run(built, check=True)
    return subprocess.run([folder / "program"], check=False, timeout=600).returncode


def output_of(script, *options):
    """What a script prints that may import this module."""
    command = [sys.executable, *options, "-c", with_path(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout
