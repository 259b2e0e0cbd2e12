"""What all tests share: the collector of circles leaves alone what was there before the first of them."""

import gc


def pytest_collection_finish():
    """A fifth of the time of tests in pure Python would go by in looking through modules and tests again and again."""
    gc.collect()
    gc.freeze()
