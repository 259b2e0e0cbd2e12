"""What all tests share: tables, instruction sets, and the collector of cycles."""

import gc
import signal

import numpy as np
import pytest
from common import ISAS
from hypothesis import HealthCheck, settings

from fastembed._kernels import backend

# Examples take as long as they need: nothing is wrong with them on a busy machine. They are the
# same in each run, so that chance does not decide whether it passes.
settings.register_profile("no clock", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

# Modules that need a framework or a tool that is not always there; the tests that use them skip.
collect_ignore_glob = ["adapters/pytorch/two_ranks.py", "adapters/*_draws*", "adapters/*_upstream.py"]
collect_ignore = ["campaigns/branches"]


def pytest_sessionstart():
    """What a shell's background job or nohup ignores would be ignored in commands under test."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGHUP", "SIGTERM"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def pytest_collection_finish():
    """To look for cycles in modules and tests again and again would take a fifth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def tables():
    """A token table of 10 rows and a position table of 6, both of 4 columns."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((10, 4)), rng.standard_normal((6, 4))


@pytest.fixture
def select_isa():
    """A function that chooses an instruction set for the length of a test; not on the reference."""
    before = backend.kernels.build_info()["isa"]
    yield backend.kernels.select_isa if ISAS else lambda name: None
    if ISAS:
        backend.kernels.select_isa(before)


@pytest.fixture(params=ISAS or [None])
def isa(request, select_isa):
    """Each instruction set, for the length of a test."""
    select_isa(request.param)
