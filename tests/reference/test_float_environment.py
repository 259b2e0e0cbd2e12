"""The reference computes in the default floating-point environment, whatever its caller has set.

So do the public names on both backends.
"""

import gc
import os
import platform
import random
import subprocess
import sys

import numpy as np
import pytest
from common import needs_c, with_path
from differential.surroundings import control_word, fp_state, fp_states
from writing.interrupts import Alarm

import fastembed as fe
from fastembed import reference
from fastembed._kernels.floats import own_floats

pytestmark = pytest.mark.on_reference

THIRDS = [[1 / 3, -2 / 3, 1e-308], [0.1, 0.7, -0.3]]
STATES = fp_states("all")[1:]


def results():
    """Of functions, methods and functions of its modules, after one that has raised."""
    grad = reference.RowGrad.from_coo([0.1, 0.2, 0.7], ([0, 1, 1], [0, 1, 0]), 2)
    layer = reference.Embedding.from_pretrained([[*row] for row in THIRDS], dtype="float32")
    optimizer = reference.optim.Adam(layer, lr=0.1, dtype="float32")
    for _ in range(3):
        layer.backward([[0.1, 0.3, 1e-40]], [1], optimizer=optimizer)
    with pytest.raises(IndexError):
        reference.gather(THIRDS, [2])
    return [
        reference.gather_add(THIRDS, [0, 1], THIRDS),
        reference.embedding_bag(THIRDS, [[0, 1, 0]], mode="mean"),
        grad.scale(1 / 3).rows,
        grad.norm(),
        layer.weight,
        reference.rules.dot(THIRDS[0], THIRDS[1], reference.rounding("float32")),
        reference.quantized.quantize(THIRDS, 8),
        reference.TokenPositionEmbedding(3, 3, 2, rng=random.Random(0)).wte,
        reference.nearest(THIRDS, [0], 2),
    ]


def results_of_the_package(wider):
    table = np.array([[0.5, 0.25], [0.75, 0.125]], "float32")
    optimizer = fe.optim.Adam(fe.Embedding.from_pretrained(table), lr=fe.schedule.cosine(0.1, 7))
    (layer,) = optimizer.items
    for _ in range(2):
        layer.backward(wider, [0, 1], optimizer=optimizer)
    layer.resize(3, new_rows=wider[0])
    grad = fe.RowGrad([0, 1], wider, (2, 2))
    return [layer.weight.tolist(), layer([0, 2]).tolist(), grad.norm(), grad.scale(1 / 3).rows.tolist(), optimizer.lr]


@pytest.fixture
def no_collection():
    """In callbacks of garbage collections, as hypothesis has them, Python loses exceptions."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.skipif(not STATES, reason="floating-point states of this machine")
@pytest.mark.parametrize("compute", [own_floats(lambda: 1), lambda: reference.gather([[1.0]], [0])], ids=["package", "reference"])
def test_an_interrupt_leaves_what_the_caller_has_set(no_collection, compute):
    """Ends of Python's contexts can be interrupted, and with them a fifth of these were lost."""
    rng, alarm, errors = random.Random(0), Alarm(), np.geterr()

    def calls():
        for _ in range(1_000_000):
            compute()

    with alarm.handled(), fp_state("up"), np.errstate(over="raise"):
        state = np.geterr(), control_word()
        assert np.geterr() != errors
        for _ in range(200):
            assert alarm.interrupts(rng.uniform(0, 0.001), calls)
            assert (np.geterr(), control_word()) == state


@pytest.mark.parametrize("state", STATES)
def test_the_package_does_not_follow_the_caller(state):
    wider = np.array([[1, 2], [4, 5]]) / 3
    expected = results_of_the_package(wider)
    with fp_state(state):
        assert results_of_the_package(wider) == expected


@pytest.mark.parametrize("state", STATES)
def test_results_do_not_follow_the_caller(state):
    expected = results()
    with fp_state(state):
        found = results()
        of_caller = sum([2.0**-1022]) / 2, sum([1.0]) / 3
    assert found == expected
    assert (of_caller[0] == 0) == ("flush" in state)  # it is as it was
    assert (of_caller[1] > 1 / 3) == ("up" in state)


DOWN = {"x86_64": 0x400, "aarch64": 0x800000}  # C's FE_DOWNWARD
DECIMALS = """
import ctypes, sys, types

def floats(code):
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return [c.hex() for c in code.co_consts if isinstance(c, float)] + [x for part in inner for x in floats(part)]

ctypes.CDLL(None).fesetround(int(sys.argv[1]))
import fastembed as fe
loaded = fe.distributed, fe.losses, fe.optim, fe.training, fe.QuantizedEmbedding, fe.TokenPositionEmbedding
ctypes.CDLL(None).fesetround(0)
for name, module in sorted(sys.modules.items()):
    if name.startswith("fastembed"):
        functions = [f for f in vars(module).values() if isinstance(f, types.FunctionType)]
        methods = [f for c in vars(module).values() if isinstance(c, type) for f in vars(c).values()]
        print(name, [floats(f.__code__) for f in [*functions, *methods] if isinstance(f, types.FunctionType)])
"""


@needs_c
@pytest.mark.skipif(platform.machine() not in DOWN, reason="its rounding modes are not known here")
def test_modules_that_are_compiled_in_another_state_have_the_same_decimals(tmp_path):
    """Without bytecode from before; 1e-8 rounded down is another number."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    command = [sys.executable, "-c", with_path(DECIMALS)]
    found = [subprocess.check_output([*command, str(mode)], env=environment) for mode in (0, DOWN[platform.machine()])]
    assert b"0x1" in found[0]
    assert found[0] == found[1]
