"""A name in shared memory that is removed after the test."""

import itertools
import os

import pytest

from fastembed.io.shared import segment

_numbers = itertools.count()


@pytest.fixture
def name():
    name = f"test-{os.getpid()}-{next(_numbers)}"
    yield name
    for path in segment.paths():
        if path.name.startswith(f"fastembed.{name}"):
            path.unlink()
