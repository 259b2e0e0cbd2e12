"""Interrupts at each line of calls that share, publish, remove: all of it happens, or nothing."""

import gc
import itertools
import sys

import numpy as np
import pytest

import fastembed as fe
from fastembed import _version

# A file whose opening was interrupted is closed by its own end.
SLOW = pytest.mark.slow_on_reference
pytestmark = [pytest.mark.on_reference, pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")]

PACKAGE = _version.__file__.removesuffix("_version.py")
# Here an exception can be at the first line of a `finally`, where no handler of a signal can run.
UNINTERRUPTED = f"{PACKAGE}_float_env.py"


def is_interrupted(n, call):
    """Whether a call has an n-th line of the package, at which it was interrupted."""
    lines = itertools.count(1)

    def trace(frame, event, _):
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE) or file == UNINTERRUPTED or frame.f_code.co_name == "__del__":
            return None  # in a `__del__` Python drops what is raised
        if event == "line" and next(lines) == n:
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def interrupts(made, call):
    """What ``made`` returns, after a call with it that was interrupted: at each line in turn."""
    for n in itertools.count(1):
        things = made()
        if not is_interrupted(n, lambda things=things: call(*things)):
            assert n > 5
            gc.collect()
            return
        yield things


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shared"


def layer_of(value):
    return fe.Embedding.from_pretrained(np.full((5, 3), value, "f4"))


def is_shared(layer):
    return layer.storage.publisher is not None and not layer.storage.publisher.is_closed


def check_sharing(layer, path):
    """Changes are published, and no unfinished file is left."""
    layer.flush()
    with fe.Embedding.attach(path) as table:
        assert np.array_equal(table.snapshot(), layer.weight)
        layer.set_rows([1], 7.5)
        assert (table([1]) == 7.5).all()
        layer.storage.publisher.publish()
        assert np.array_equal(table.snapshot(), layer.weight)
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    layer.storage.publisher.remove()


def test_share(path):
    for (layer,) in interrupts(lambda: (layer_of(1),), lambda layer: layer.share(path)):
        assert path.exists() == is_shared(layer)
        if not is_shared(layer):
            layer.share(path)
        check_sharing(layer, path)


def test_share_in_place_of_another_table(path):
    def made():
        with layer_of(1).share(path):
            table = fe.Embedding.attach(path)
        return layer_of(2), table

    for layer, table in interrupts(made, lambda layer, _: layer.share(path, replace=True)):
        assert (table.snapshot() == 1 + is_shared(layer)).all()
        if not is_shared(layer):
            layer.share(path, replace=True)
        assert (table.snapshot() == 2).all()
        check_sharing(layer, path)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda layer, _: layer.storage.publisher.publish(), id="publish"),
        pytest.param(lambda layer, _: layer.resize(8), id="resize", marks=SLOW),
        pytest.param(lambda layer, _: layer.set_rows([0, 2], 4.0), id="set_rows"),
        pytest.param(lambda layer, opt: layer.backward(np.ones((2, 3)), [0, 2], optimizer=opt), id="step", marks=SLOW),
    ],
)
def test_what_is_published_later_is_the_whole_layer(path, call):
    def made():
        layer = layer_of(1)
        layer.share(path)
        return layer, fe.optim.SGD(layer, lr=1.0)

    for layer, _ in interrupts(made, call):
        assert is_shared(layer)
        check_sharing(layer, path)


def test_close_and_remove(path):
    def made():
        shared = layer_of(1).share(path)
        return shared, fe.Embedding.attach(path)

    def end(shared, _):
        shared.close()
        shared.remove()

    for shared, table in interrupts(made, end):
        shared.remove()
        assert not path.exists()
        assert (table.snapshot() == 1).all()
        with layer_of(2).share(path) as other:
            assert (table([1]) == 2).all()
        other.remove()
