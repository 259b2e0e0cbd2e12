"""Forks in every state of the pool, and interpreters that exit while workers work."""

from __future__ import annotations

import subprocess
import sys

_WORK = """
import os, random, sys, threading, time
import numpy as np
import fastembed as fe
table = np.arange(2000 * 64, dtype="f4").reshape(2000, 64)
ids = np.arange(20_000) * 7 % 2000
def right():
    return bool((fe.gather(table, ids)[::97] == table[ids[::97]]).all())
def work(stop):
    while not stop.is_set():
        if not right():
            os._exit(3)
rng = random.Random(int(sys.argv[1]))
"""

_FORKS = (
    _WORK
    + """
stop = threading.Event()
fe.set_num_threads(rng.choice((1, 2, 4)))
busy = [threading.Thread(target=work, args=(stop,), daemon=True) for _ in range(rng.randrange(3))]
[thread.start() for thread in busy]
for _ in range(20):
    state = rng.randrange(4)
    if state == 1:
        right()
    elif state == 2:
        fe.set_num_threads(rng.choice((1, 2, 3, 8)))
    time.sleep(rng.random() * 0.003)
    child = os.fork()
    if child == 0:
        fe.set_num_threads(rng.choice((1, 2, 4)))
        grandchild = os.fork() if rng.random() < 0.2 else None
        good = right() and right()
        if grandchild:
            good = good and os.waitpid(grandchild, 0)[1] == 0
        os._exit(0 if good else 1)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("a child failed")
stop.set()
[thread.join() for thread in busy]
print("done")
"""
)

_EXITS = (
    _WORK
    + """
stop = threading.Event()
fe.set_num_threads(4)
[threading.Thread(target=work, args=(stop,), daemon=True).start() for _ in range(3)]
time.sleep(rng.random() * 0.02)
print("done", flush=True)
how = rng.randrange(3)
if how == 1:
    sys.exit(0)
if how == 2:
    import atexit
    atexit.register(right)
"""
)


def _run(script: str, seed: int, timeout: float) -> str | None:
    """What was wrong with a script in an interpreter of its own; None if nothing."""
    command = [sys.executable, "-W", "ignore", "-X", "faulthandler", "-c", script, str(seed)]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"did not end in {timeout} s"
    is_good = found.returncode == 0 and found.stdout == "done\n" and not found.stderr
    return None if is_good else f"status {found.returncode}, {found.stdout!r}, {found.stderr[-600:]!r}"


def run(n: int, seed: int, timeout: float = 120) -> int:
    """n interpreters that fork twenty times each, and n that exit; 1 if one hung or failed."""
    status = 0
    for name, script in (("forks", _FORKS), ("exits", _EXITS)):
        faults = 0
        for k in range(seed, seed + n):
            found = _run(script, k, timeout)
            if found is not None:
                faults += 1
                print(f"SEED={k} {name}: {found}", flush=True)
        status |= int(faults > 0)
        print(f"{name}: {n:,} interpreters, {faults} faults", flush=True)
    return status
