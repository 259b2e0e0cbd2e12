"""The path of a table in a folder of its own."""

import pytest


@pytest.fixture
def path(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / "table.safetensors"
