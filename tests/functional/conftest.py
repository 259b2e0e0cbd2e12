"""Sizes of blocks, on which the results of a search do not depend."""

import pytest

from fastembed.functional import search


@pytest.fixture(params=["usual", "tiny"])
def blocks(request, monkeypatch):
    """Blocks of megabytes, and of a few rows."""
    if request.param == "tiny":
        monkeypatch.setattr(search, "_BLOCK_BYTES", 200)
        monkeypatch.setattr(search, "_ONE_PASS_BYTES", 200)
        monkeypatch.setattr(search, "_BLOCK_SCORES", 20)
        monkeypatch.setattr(search, "_PAIR_BYTES", 500)
