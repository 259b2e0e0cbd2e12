"""States that resume to the bit, states of others, and errors that change nothing."""

import copy
import os
import tempfile

import numpy as np
import pytest
from common import DTYPES, needs_c, same_bits
from optimizers import MAKE, batches, each_optimizer, resumed_by_copy, resumed_by_pickle, snapshot, train

import fastembed as fe
from fastembed import checkpoint

pytestmark = pytest.mark.on_reference


def resumed_by_state_dict(layer, opt, name):
    other = fe.Embedding.from_pretrained(layer.weight.copy())
    again = MAKE[name](other)
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    return other, again


def resumed_by_file(layer, opt, name):
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save_state(f"{folder}/run", {"layer": layer.state_dict(), "optimizer": opt.state_dict()})
        state = checkpoint.load_state(f"{folder}/run")
    other = fe.Embedding(*layer.weight.shape, dtype=layer.dtype, rng=1)
    again = MAKE[name](other)
    other.load_state_dict(state["layer"])
    again.load_state_dict(state["optimizer"])
    return other, again


@pytest.mark.slow_on_reference
@each_optimizer
@pytest.mark.parametrize("resumed", [resumed_by_state_dict, resumed_by_file, resumed_by_copy, resumed_by_pickle])
@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(name, resumed, dtype):
    some = batches(np.random.default_rng(4), 24, 7, (3,), 5, "float32" if dtype == "bfloat16" else dtype)
    whole = fe.Embedding(7, 5, dtype=dtype, rng=0)
    train(whole, MAKE[name](whole), some)
    layer = fe.Embedding(7, 5, dtype=dtype, rng=0)
    opt = MAKE[name](layer)
    train(layer, opt, some[:11])
    second, second_opt = resumed(layer, opt, name)
    assert second_opt.items[0] is second
    assert second.tables["weight"] is not layer.tables["weight"]
    train(second, second_opt, some[11:])
    assert same_bits(second.weight, whole.weight)
    train(layer, opt, some[11:])  # what was copied from goes on by itself
    assert same_bits(layer.weight, whole.weight)


def test_a_state_keeps_momentum_that_is_switched_off():
    """A state with a buffer that its options did not need could not be loaded."""
    some = batches(np.random.default_rng(1), 9, 4, (2,), 2)
    layer, resumed = (fe.Embedding(4, 2, dtype="float64", rng=0) for _ in range(2))
    opt, again = fe.optim.SGD(layer, momentum=0.9), fe.optim.SGD(resumed)
    train(layer, opt, some[:3])
    opt.momentum = 0.0
    train(layer, opt, some[3:6])
    resumed.load_state_dict(layer.state_dict())
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    for each, each_opt in ((layer, opt), (resumed, again)):
        each_opt.momentum = 0.9
        train(each, each_opt, some[6:])
    assert same_bits(resumed.weight, layer.weight)


def test_a_state_without_momentum_is_one_for_momentum_too():
    """Its buffer is then new, as in PyTorch; so are the options those of the state."""
    some = batches(np.random.default_rng(1), 6, 4, (2,), 2)
    layer = fe.Embedding(4, 2, dtype="float64", rng=0)
    opt = fe.optim.SGD(layer)
    train(layer, opt, some[:3])
    resumed = fe.Embedding.from_pretrained(layer.weight.copy())
    again = fe.optim.SGD(resumed, momentum=0.9)
    train(resumed, again, some[:2])  # a buffer that is not zeros
    resumed.load_state_dict(layer.state_dict())
    again.load_state_dict(opt.state_dict())
    assert again.momentum == 0.0
    assert again.state_dict()["items"][0]["step"] == 3
    for each, each_opt in ((layer, opt), (resumed, again)):
        each_opt.momentum = 0.9
        train(each, each_opt, some[3:])
    assert same_bits(resumed.weight, layer.weight)
    state = fe.optim.Adam(layer).state_dict()
    del state["items"][0]["exp_avg"]
    with pytest.raises(KeyError, match="item 0 must have the names"):  # the other state cannot begin anew
        fe.optim.Adam(layer).load_state_dict(state)


@pytest.mark.parametrize("name", ["Adagrad", "RowWiseAdagrad", "Adam", "SparseAdam"])
def test_a_state_of_negative_squares_gives_nan(name):
    """As the square root of C: the reference raised ValueError."""
    layer = fe.Embedding(4, 2, dtype="float64", rng=0)
    opt = MAKE[name](layer)
    state = opt.state_dict()
    next(reversed(state["items"][0].values()))["weight"][...] = -100
    opt.load_state_dict(state)
    layer.backward(np.ones((1, 2)), [1], optimizer=opt)
    assert np.isnan(layer.weight[1]).all()


def test_a_frozen_item_cannot_be_there_twice():
    layer = fe.Embedding.from_pretrained(np.zeros((4, 2)), freeze=True)
    with pytest.raises(ValueError, match="item 1 must not overlap item 0, which is the same"):
        fe.optim.SGD([{"params": [layer]}, {"params": layer}])


@each_optimizer
def test_a_state_says_whose_it_is(name):
    state = MAKE[name](fe.Embedding(4, 2, rng=0)).state_dict()
    for other in MAKE:
        if other != name:
            with pytest.raises(ValueError, match=f"the state is one of {name}, not of {other}"):
                MAKE[other](fe.Embedding(4, 2, rng=0)).load_state_dict(state)
    del state["optimizer"]  # as it was before states said so
    MAKE[name](fe.Embedding(4, 2, rng=0)).load_state_dict(state)


def trained_pair():
    layer = fe.Embedding(4, 2, dtype="float64", rng=0)
    opt = fe.optim.Adam(layer, lr=0.1)
    layer.backward(np.ones((1, 2)), [1], optimizer=opt)
    return layer, opt


def test_invalid_states():
    layer, opt = trained_pair()
    before, weight, state = copy.deepcopy(opt.state_dict()), layer.weight.copy(), opt.state_dict()
    for error, text, bad in (
        (TypeError, "the state must be a mapping, got \\[", [state]),
        (KeyError, "the state of an optimiser: missing names", {"items": state["items"]}),
        (KeyError, r"a group of the state must have options of .*got \['lr'\]", {**state, "groups": [["lr"]]}),
        (KeyError, r"a group of the state must have options of .*got \{'momentum': 1\}", {**state, "groups": [{"momentum": 1}]}),
    ):
        with pytest.raises(error, match=text):
            opt.load_state_dict(bad)
        assert str(opt.state_dict()) == str(before)
    assert (layer.weight == weight).all()


def test_a_count_of_steps_that_no_float_counts_is_refused():
    opt = fe.optim.SGD(fe.Embedding(2, 1), lr=0.1)
    state = opt.state_dict()
    (item,) = state["items"]
    with pytest.raises(ValueError, match=r"step of item 0 must be from 0 to 2\*\*53, got 9007199254740993"):
        opt.load_state_dict(state | {"items": [item | {"step": 2**53 + 1}]})


def test_a_gradient_of_another_table_is_refused():
    layer, opt = trained_pair()
    weight = layer.weight.copy()
    layer.backward(np.ones((1, 2)), [3])
    layer.grads()["weight"].shape = (5, 2)
    with pytest.raises(ValueError, match=r"the shape of a gradient, \(5, 2\), does not match that of its table, \(4, 2\)"):
        opt.step()
    assert (layer.weight == weight).all()


@each_optimizer
@pytest.mark.parametrize("fused", [True, False])
def test_an_error_in_a_step_changes_nothing(name, fused):
    layer = fe.TokenPositionEmbedding(6, 4, 3, dtype="float64", rng=0)
    opt = MAKE[name](layer)
    train(layer, opt, batches(np.random.default_rng(0), 5, 6, (2, 3), 3), fused)
    before = snapshot(layer, opt)
    for error, dout, ids in (
        (IndexError, np.ones((2, 3)), [1, 6]),
        (IndexError, np.ones((5, 3)), [0, 1, 2, 3, 4]),  # more positions than there are
        (ValueError, np.ones((2, 4)), [1, 2]),
        (ValueError, np.ones((3, 3)), [1, 2]),
        (TypeError, np.ones((2, 3), complex), [1, 2]),
        (TypeError, np.ones((2, 3)), [1.0, 2.0]),
    ):
        with pytest.raises(error):
            train(layer, opt, [(ids, dout)], fused)
        assert snapshot(layer, opt) == before
    with pytest.raises(ValueError, match="lr must be from"):
        opt.lr = -1.0
    with pytest.raises(ValueError, match="lr must be from"):
        opt.lr = float("nan")
    assert snapshot(layer, opt) == before


def test_a_pending_gradient_and_a_fused_step_exclude_each_other():
    layer = fe.Embedding(4, 2, dtype="float64", rng=0)
    opt = fe.optim.Adam(layer)
    layer.backward(np.ones((1, 2)), [1])
    before = snapshot(layer, opt)
    with pytest.raises(RuntimeError, match="pending"):
        layer.backward(np.ones((1, 2)), [2], optimizer=opt)
    assert snapshot(layer, opt) == before
    layer.zero_grad()
    with pytest.raises(ValueError, match="does not hold this layer"):
        layer.backward(np.ones((1, 2)), [2], optimizer=fe.optim.Adam(fe.Embedding(4, 2, rng=0)))
    with pytest.raises(TypeError, match="optimizer must be one of"):
        layer.backward(np.ones((1, 2)), [2], optimizer="adam")


def test_states_from_before_an_option_was_there_load():
    layer = fe.Embedding(4, 2, rng=0)
    opt = fe.optim.SGD(layer, lr=0.5, momentum=0.9, dampening=0.5, maximize=True)
    train(layer, opt, batches(np.random.default_rng(0), 3, 4, (2,), 2, "float32"))
    state = {name: value for name, value in opt.state_dict().items() if name not in ("maximize", "dampening")}
    opt.load_state_dict(state)
    assert (opt.maximize, opt.dampening, opt.step_counts) == (False, 0.0, [3])


@pytest.mark.fork
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@needs_c
def test_a_forked_child_trains_rows_with_pending_updates():
    rng = np.random.default_rng(0)
    layer = fe.Embedding(3000, 65, rng=0)
    opt = fe.optim.Adam(layer)
    some = batches(rng, 10, 3000, (500,), 65, "float32")
    train(layer, opt, some[:5])
    twin, twin_opt = copy.deepcopy((layer, opt))
    train(twin, twin_opt, some[5:])
    with layer.lock:  # held by the parent while it forks
        child = os.fork()
        if child == 0:
            code = 1
            try:
                train(layer, opt, some[5:])
                code = 0 if same_bits(layer.weight, twin.weight) else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    train(layer, opt, some[5:])
    assert same_bits(layer.weight, twin.weight)
