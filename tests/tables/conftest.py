"""Each way to read a table on disk, in turn."""

import pytest
from disk_files import WAYS, usable


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{'direct' if way[1] else 'buffered'}")
def way(request, tmp_path):
    return usable(request.param, tmp_path)
