"""What tests of reads from files share."""

import numpy as np
import pytest

from fastembed._kernels.backend import kernels


@pytest.fixture
def needs_uring():
    rows = kernels.DiskRows(np.zeros((64, 4), np.uint8), [(4, [(0, 0, 10)])], 8, True)
    if rows.statistics()["engine"] != "io_uring":
        pytest.skip("the kernel does not allow io_uring")
