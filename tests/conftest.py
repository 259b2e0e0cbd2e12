"""What all tests share: tables, instruction sets, and a collector that leaves alone what was there before them."""

import gc

import numpy as np
import pytest
from common import ISAS

from fastembed._kernels import backend


def pytest_collection_finish():
    """Cyclic collections that look through modules and tests again and again take a fifth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def tables():
    """A token table of 10 rows and a position table of 6, both of 4 columns."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((10, 4)), rng.standard_normal((6, 4))


@pytest.fixture
def select_isa():
    """A function that chooses an instruction set, for the length of a test."""
    before = backend.kernels.build_info()["isa"]
    yield backend.kernels.select_isa
    backend.kernels.select_isa(before)


@pytest.fixture(params=ISAS or [None])
def isa(request):
    """Each instruction set, for the length of a test; None on the reference, which has none."""
    if request.param is not None:
        request.getfixturevalue("select_isa")(request.param)
