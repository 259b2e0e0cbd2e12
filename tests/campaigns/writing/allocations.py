"""Each allocation of each call that writes fails once: MemoryError, and all or nothing.

A malloc that fails is preloaded, and Python told to use malloc for everything. Each kind of call
runs in a process of its own, so that a crash is a fault, with its number.
"""

from __future__ import annotations

import collections
import ctypes
import gc
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

from .calls import CALLS, cases, is_of_files, made
from .interrupts import Twin, fault_of

SOURCE = Path(__file__).with_name("failing_malloc.c")
LIBRARY = Path("build/failing_malloc.so").resolve()
_MOST = 100_000


def build() -> None:
    """Compile the malloc, where it is older than its source."""
    LIBRARY.parent.mkdir(exist_ok=True)
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime < SOURCE.stat().st_mtime:
        command = [os.environ.get("CC", "cc"), "-O2", "-fPIC", "-shared", "-Wall", str(SOURCE), "-o", str(LIBRARY), "-ldl"]
        subprocess.run(command, check=True)


def environment() -> dict[str, str]:
    return {**os.environ, "LD_PRELOAD": str(LIBRARY), "PYTHONMALLOC": "malloc"}


def walk(place: tuple[str, ...], first: int = 1, now: str | None = None) -> int:
    """Run in the process with that malloc: lets the first allocation fail, the second, and so on.

    Prints each fault once, and how many allocations there are. ``now`` is the path of a file for
    the number of the one that fails.
    """
    name, kind, optimizer = place
    has_excuse = not is_of_files(name, kind)  # for another error
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None  # of generators that are closed without memory
    gc.disable()  # a collection in the middle makes other allocations
    shim = ctypes.CDLL(None)
    shim.fail_at.argtypes, shim.fail_at.restype = [ctypes.c_long], None
    faults: collections.Counter[str] = collections.Counter()
    examples: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as root, open(now or os.devnull, "r+b") as file:
        shared = mmap.mmap(file.fileno(), 8) if now else None
        folder = Path(root)
        twin, n, not_ours = Twin((name, kind, optimizer), folder), first, 0
        while n < _MOST:
            if shared is not None:
                shared[:8] = struct.pack("<q", n)
            subject = made(kind, optimizer, folder / "subject")
            prepared = CALLS[name].prepare(subject)
            error: BaseException | None = None
            call = CALLS[name].call
            try:
                shim.fail_at(n)
                call(subject, prepared)
            except BaseException as raised:
                error = raised
            if not _has_failed(shim):
                break
            fault = _wrong_error(error)
            if fault and has_excuse and _is_of_others(error):
                fault, not_ours = None, not_ours + 1
            error = None  # its traceback holds what the call had made so far
            fault = fault or fault_of((name, kind, optimizer), twin, subject, prepared)
            if fault is not None:
                faults[fault] += 1
                examples.setdefault(fault, n)
            subject.close()
            n += 1
        if shared is not None:
            shared.close()
    for fault, number in faults.most_common():
        print(f"{number:6} places of {name} {kind} {optimizer}, the first is {examples[fault]}: {fault}")
    found = f"{sum(faults.values())} faults, {not_ours} errors of Python or NumPy that are no MemoryError"
    print(f"{name} {kind} {optimizer}: places {first} to {n - 1}, {found}", flush=True)
    return int(bool(faults))


def _has_failed(shim: ctypes.CDLL) -> bool:
    """Whether an allocation has failed before this call, which may make the one that fails."""
    try:
        return bool(shim.has_failed())
    except MemoryError:
        return False


def _is_of_others(error: BaseException | None) -> bool:
    """Whether Python or NumPy lost a MemoryError, and raised something else for it."""
    return isinstance(error, SystemError) or any(text in str(error) for text in ("not PosixPath", "can't allocate"))


def _wrong_error(error: BaseException | None) -> str | None:
    """What is wrong with an error that is no MemoryError."""
    if error is None or isinstance(error, MemoryError):
        return None
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error!r:.150} in {os.path.basename(where.filename)}:{where.lineno}"


def run(names: str = "", optimizers: str = "") -> int:
    """Every kind of call in a process of its own; after a crash on with the next allocation."""
    build()
    status, crashes = 0, 0
    for place in cases(names, optimizers or "SGD,Adam"):
        first = 1
        while True:
            with tempfile.NamedTemporaryFile() as now:
                now.write(bytes(8))
                now.flush()
                command = [sys.executable, "-m", "writing", "allocations", f"--place={','.join(place)}", f"--first={first}"]
                found = subprocess.run([*command, f"--now={now.name}"], env=environment(), check=False).returncode
                (at,) = struct.unpack("<q", Path(now.name).read_bytes())
            status |= int(found != 0)
            if found >= 0:
                break
            crashes += 1
            print(f"signal {-found} at place {at} of {' '.join(place)}", flush=True)
            first = at + 1
    print(f"{crashes} crashes")
    return status
