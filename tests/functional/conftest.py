"""Sizes of blocks, on which the results of a search do not depend."""

import pytest

from fastembed.functional.search import nearest


@pytest.fixture(params=["usual", "tiny"])
def blocks(request, monkeypatch):
    """Blocks of megabytes, and of a few rows."""
    if request.param == "tiny":
        monkeypatch.setattr(nearest, "_BLOCK_BYTES", 200)
        monkeypatch.setattr(nearest, "_ONE_PASS_BYTES", 200)
        monkeypatch.setattr(nearest, "_BLOCK_SCORES", 20)
        monkeypatch.setattr(nearest, "_PAIR_BYTES", 500)
