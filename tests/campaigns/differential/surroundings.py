"""The surroundings of a call: instruction set, threads, the caller's floating-point state."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import platform
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from common import ISAS

import fastembed as fe
from fastembed._kernels import backend

# By machine: the size of C's fenv_t, where its control word is, the bits that flush denormals to
# zero there, and the numbers of the rounding modes.
_LAYOUTS = {
    "x86_64": (32, 28, 0x8040, {"nearest": 0, "down": 0x400, "up": 0x800, "zero": 0xC00}),
    "aarch64": (8, 0, 1 << 24, {"nearest": 0, "up": 0x400000, "down": 0x800000, "zero": 0xC00000}),
}
STATES = ("default", "flush", "down", "up", "zero", "flush down")


class Surroundings(NamedTuple):
    isa: str | None
    n_threads: int
    fp_state: str


def fp_states(wanted: str) -> tuple[str, ...]:
    """The floating-point states to draw from: the default one, or all that can be set here."""
    return STATES if wanted == "all" and platform.machine() in _LAYOUTS else STATES[:1]


@functools.cache
def _libm() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("m"))


def _environment() -> tuple[Any, ctypes.c_uint32]:
    """The calling thread's fenv_t, and in it the control word."""
    size, place, _, _ = _LAYOUTS[platform.machine()]
    environment = ctypes.create_string_buffer(size)
    _libm().fegetenv(environment)
    return environment, ctypes.c_uint32.from_buffer(environment, place)


def control_word() -> int:
    """The calling thread's rounding mode and treatment of denormals, as the machine's bits."""
    return _environment()[1].value & ~0x3F  # the flags of what has happened


@contextlib.contextmanager
def fp_state(state: str) -> Iterator[None]:
    """The calling thread's control word, as another library may have left it."""
    if state == "default":
        yield
        return
    _, _, flush, modes = _LAYOUTS[platform.machine()]
    libm, (before, _), (changed, word) = _libm(), _environment(), _environment()
    for part in state.split():
        if part == "flush":
            word.value |= flush
    libm.fesetenv(changed)
    libm.fesetround(next((modes[part] for part in state.split() if part in modes), modes["nearest"]))
    try:
        yield
    finally:
        libm.fesetenv(before)


@contextlib.contextmanager
def surrounded(by: Surroundings) -> Iterator[None]:
    if by.isa is not None:
        backend.kernels.select_isa(by.isa)
    fe.set_num_threads(by.n_threads)
    with fp_state(by.fp_state):
        yield


def draw_from(rng: random.Random, states: tuple[str, ...], n: int) -> list[Surroundings]:
    """Some surroundings for one case, each instruction set as often as another."""
    isas = rng.sample(ISAS, len(ISAS)) if ISAS else [None]
    return [Surroundings(isas[k % len(isas)], rng.choice((1, 1, 2, 3, 4, 8)), rng.choice(states)) for k in range(n)]
