"""What the tests of the layers over PyTorch share."""

import pytest


@pytest.fixture(params=["own look-ups", "PyTorch's for short calls"])
def every_size(request, monkeypatch):
    """Both ways of a short call: as a long one, and by PyTorch's op."""
    functional = pytest.importorskip(
        "fastembed.adapters.torch.functional", reason="PyTorch is not installed", exc_type=ImportError
    )
    if request.param == "own look-ups":
        monkeypatch.setattr(functional, "SMALL", -1)
