"""What an optimiser keeps: rows that do not move, resized tables, states that resume, groups, errors that change nothing."""

import copy
import os
import pickle
import tempfile

import numpy as np
import pytest
from common import DTYPES, lists, on_threads, same_bits

import fastembed as fe
from fastembed import checkpoint, reference

MAKE = {
    "SGD": lambda items, **rows: fe.optim.SGD(items, lr=0.1, momentum=0.9, weight_decay=0.01, **rows),
    "Adagrad": lambda items, **rows: fe.optim.Adagrad(items, lr=0.1, initial_accumulator_value=0.5, **rows),
    "RowWiseAdagrad": lambda items, **rows: fe.optim.RowWiseAdagrad(items, lr=0.1, **rows),
    "Adam": lambda items, **rows: fe.optim.Adam(items, lr=0.1, **rows),
    "AdamW": lambda items, **rows: fe.optim.AdamW(items, lr=0.1, weight_decay=0.1, **rows),
    "SparseAdam": lambda items, **rows: fe.optim.SparseAdam(items, lr=0.1, **rows),
}
each_optimizer = pytest.mark.parametrize("name", list(MAKE))


def like_of(opt, like, dtype, **rows):
    """The reference's optimiser with the same options."""
    options = {name: getattr(opt, name) for name in opt.options}
    return getattr(reference.optim, type(opt).__name__)(like, **options, dtype=dtype, **rows)


def batches(rng, n, n_rows, shape, width, dtype="float64"):
    return [(rng.integers(0, n_rows, shape), rng.standard_normal((*shape, width)).astype(dtype)) for _ in range(n)]


def train(layer, opt, some, fused=True):
    for ids, dout in some:
        if fused:
            layer.backward(dout, ids, optimizer=opt)
        else:
            layer.backward(dout, ids)
            opt.step()
            opt.zero_grad()


def snapshot(layer, opt):
    """All that a step could change, as bytes; nothing is brought up to date by looking."""
    state = [{name: array.tobytes() for name, array in arrays.items()} for of_item in opt._state for arrays in of_item.values()]
    grads = {name: (grad.ids.tobytes(), grad.rows.tobytes()) for name, grad in layer.grads().items()}
    return {name: table.tobytes() for name, table in layer.tables.items()}, state, list(opt._steps), grads


# Rows


@each_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
def test_frozen_rows_and_learning_rates_of_rows(name, dtype):
    rng = np.random.default_rng(0)
    mask, factors = rng.random(8) < 0.6, rng.choice([0.0, 0.5, 1.0, 3.0], 8)
    rows = {"trainable_rows": mask, "lr_multipliers": {"wte": factors, "wpe": [1.0, 0.0, 2.0]}}
    like_rows = {"trainable_rows": mask.tolist(), "lr_multipliers": {"wte": factors.tolist(), "wpe": [1.0, 0.0, 2.0]}}
    wte, wpe = rng.standard_normal((8, 5)).astype(dtype), rng.standard_normal((3, 5)).astype(dtype)
    layer = fe.TokenPositionEmbedding.from_arrays(wte.copy(), wpe.copy(), trainable_rows=[0, 1, 2, 5, 6])
    like = reference.TokenPositionEmbedding.from_arrays(*lists(wte, wpe), dtype=dtype, trainable_rows=[0, 1, 2, 5, 6])
    opt = MAKE[name](layer, **rows)
    like_opt = like_of(opt, like, dtype, **like_rows)
    for k, (ids, dout) in enumerate(batches(rng, 10, 8, (2, 3), 5, dtype)):
        train(layer, opt, [(ids, dout)], fused=k % 2 == 0)
        like.backward(*lists(dout, ids), optimizer=like_opt)
    assert same_bits(layer.wte, np.array(like.wte, dtype))
    assert same_bits(layer.wpe, np.array(like.wpe, dtype))
    frozen = ~(mask & np.isin(np.arange(8), [0, 1, 2, 5, 6]) & (factors != 0))
    assert 0 < frozen.sum() < 8
    assert same_bits(layer.wte[frozen], wte[frozen])
    assert same_bits(layer.wpe[1], wpe[1])


def test_rows_that_begin_to_move_take_no_earlier_step():
    layer = fe.Embedding(4, 2, dtype="float64", rng=0)
    opt = fe.optim.AdamW(layer, lr=0.1, weight_decay=0.5, trainable_rows=[0, 1])
    train(layer, opt, [([0, 3], np.ones((2, 2)))] * 5)
    before = layer.weight.copy()
    opt.trainable_rows = None
    assert same_bits(layer.weight, before)
    train(layer, opt, [([0], np.ones((1, 2)))])
    assert np.array_equal(layer.weight[3], before[3] * (1 - 0.1 * 0.5))


@pytest.mark.parametrize("given", ["attribute", "group", "written into the group", "mapping", "layer"])
def test_rows_that_were_given_are_copied(given):
    """An array that changes later was read again once, when the layer was resized or copied."""
    mask, factors = np.array([True, True, False, False, True]), np.array([1.0, 0.5, 1.0, 1.0, 2.0])
    rows = {"trainable_rows": mask, "lr_multipliers": factors}
    expected = fe.Embedding(5, 2, dtype="float64", rng=0)
    expected_opt = fe.optim.AdamW(expected, trainable_rows=mask.tolist(), lr_multipliers=factors.tolist())
    layer = fe.Embedding(5, 2, dtype="float64", rng=0)
    if given == "attribute":
        opt = fe.optim.AdamW(layer, **rows)
    elif given == "group":
        opt = fe.optim.AdamW([{"params": layer, **rows}])
    elif given == "mapping":
        opt = fe.optim.AdamW(layer, **{name: {"weight": array} for name, array in rows.items()})
    elif given == "layer":
        layer = fe.Embedding(5, 2, dtype="float64", rng=0, trainable_rows=mask)
        opt = fe.optim.AdamW(layer, lr_multipliers=factors)
    else:
        opt = fe.optim.AdamW(layer)
        opt.param_groups[0] |= rows
    some = batches(np.random.default_rng(0), 6, 5, (2,), 2)
    if given == "written into the group":
        train(layer, opt, some[:1])  # which takes them
    else:
        mask[:], factors[:] = ~mask, 7.0
        train(layer, opt, some[:1])
    train(expected, expected_opt, some[:1])
    mask[:], factors[:] = ~mask, 9.0
    train(layer, opt, some[1:3])
    layer, opt = copy.deepcopy((layer, opt))
    train(layer, opt, some[3:])
    train(expected, expected_opt, some[1:])
    assert same_bits(layer.weight, expected.weight)
    kept = [opt.trainable_rows, opt.lr_multipliers, *opt.param_groups[0].values(), layer.trainable_rows]
    kept += [array for value in kept if isinstance(value, dict) for array in value.values()]
    arrays = [value for value in kept if isinstance(value, np.ndarray)]
    assert len(arrays) == 2
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


TOO_LARGE = [
    ("SGD", "float32", {"lr": 1e38}, 1e10),
    ("Adagrad", "float32", {"lr": 1e38}, 1e10),
    ("RowWiseAdagrad", "float32", {"lr": 1e38, "weight_decay": 0.1}, 4.0),
    ("SparseAdam", "float16", {"lr": 2e38}, 10.0),
    ("Adam", "float32", {"lr": 1e38}, 1.0),  # over 1 - beta1
    ("AdamW", "float32", {"lr": 1e30, "weight_decay": 1e10}, 1.0),
    ("SGD", "float64", {"lr": 1e38}, 1e300),
]


@pytest.mark.parametrize(("name", "dtype", "options", "factor"), TOO_LARGE)
def test_a_learning_rate_that_is_infinite_in_the_dtype_is_refused(name, dtype, options, factor):
    """Times the zeros of a gradient it is NaN, which rows that no batch touched became in the reference alone."""
    layer = fe.Embedding(4, 2, dtype=dtype, rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist(), dtype=dtype)
    factors = [1.0, factor, 0.5, 0.0]
    opt, like_opt = (
        getattr(of, name)(item, **options, lr_multipliers=factors) for of, item in ((fe.optim, layer), (reference.optim, like))
    )
    before = snapshot(layer, opt)
    text = r"the learning rate of step 1 must be from 0\.0 to .*e\+(38|308), got .*"
    with pytest.raises(ValueError, match=text) as error:
        layer.backward(np.ones((1, 2)), [2], optimizer=opt)
    like.backward([[1.0, 1.0]], [2])
    with pytest.raises(ValueError, match=text) as like_error:
        like_opt.step()
    assert str(error.value) == str(like_error.value)
    assert snapshot(layer, opt) == before
    assert like.weight == layer.weight.tolist()
    opt.lr_multipliers = None
    opt.lr = 0.1 if name != "AdamW" else 1e-12
    train(layer, opt, [([2], np.ones((1, 2), layer.weight.dtype if dtype != "float16" else "f4"))])


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam", "AdamW"])
def test_the_largest_learning_rates_agree_with_the_reference(name):
    rng = np.random.default_rng(0)
    layer = fe.Embedding(6, 3, rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist(), dtype="float32")
    factors = [1.0, 0.0, 3.4, 3.4, 1e-3, 1.0]
    opt, like_opt = (
        getattr(of, name)(item, lr=1e37, lr_multipliers=factors, dtype="float32")
        if of is reference.optim
        else getattr(of, name)(item, lr=1e37, lr_multipliers=factors)
        for of, item in ((fe.optim, layer), (reference.optim, like))
    )
    with np.errstate(all="ignore"):
        for ids, dout in batches(rng, 12, 6, (2,), 3, "float32"):
            layer.backward(dout, ids, optimizer=opt)
            like.backward(*lists(dout, ids), optimizer=like_opt)
    assert same_bits(layer.weight, np.array(like.weight, "float32"))


@pytest.mark.parametrize(
    ("error", "text", "rows"),
    [
        (IndexError, "trainable_rows.* 4 ", {"trainable_rows": [0, 4]}),
        (ValueError, "trainable_rows", {"trainable_rows": [True, False]}),
        (TypeError, "trainable_rows", {"trainable_rows": [0.5]}),
        (ValueError, "lr_multipliers", {"lr_multipliers": [1.0, 2.0]}),
        (ValueError, "lr_multipliers", {"lr_multipliers": [1.0, 2.0, -1.0, 0.0]}),
        (ValueError, "lr_multipliers", {"lr_multipliers": [1.0, 2.0, float("nan"), 0.0]}),
    ],
)
def test_bad_rows(error, text, rows):
    layer = fe.Embedding(4, 2, dtype="float64", rng=0)
    before = layer.weight.copy()
    with pytest.raises(error, match=text):
        train(layer, fe.optim.Adam(layer, **rows), [([0], np.ones((1, 2)))])
    assert same_bits(layer.weight, before)


# Resizing


@each_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
def test_resize_keeps_rows_and_their_state(name, dtype):
    rng = np.random.default_rng(1)
    layer = fe.Embedding(6, 3, dtype=dtype, rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist(), dtype=dtype)
    opt = MAKE[name](layer)
    like_opt = like_of(opt, like, dtype)
    new_rows = rng.standard_normal((3, 3)).astype(dtype)
    for n, new in ((6, None), (9, new_rows), (4, None), (7, None), (2, None)):
        layer.resize(n, new_rows=new)
        like.resize(n, new_rows=None if new is None else new.tolist())
        assert layer.weight.shape == (n, 3)
        for k, (ids, dout) in enumerate(batches(rng, 6, n, (4,), 3, dtype)):
            train(layer, opt, [(ids, dout)], fused=k % 2 == 0)
            like.backward(*lists(dout, ids), optimizer=like_opt)
        assert same_bits(layer.weight, np.array(like.weight, dtype))


def test_resize_drops_gradients_of_rows_that_are_gone_and_refuses_nonsense():
    layer = fe.TokenPositionEmbedding(5, 4, 2, dtype="float64", rng=0)
    layer.backward(np.ones((2, 2)), [1, 4])
    layer.resize(3)
    assert layer.grads()["wte"].ids.tolist() == [1]
    assert layer.grads()["wpe"].ids.tolist() == [0, 1]
    layer.resize(6, table="wpe")
    assert layer.wpe.shape == (6, 2)
    for error, call in (
        (ValueError, lambda: layer.resize(-1)),
        (TypeError, lambda: layer.resize(2.5)),
        (KeyError, lambda: layer.resize(3, table="weight")),
        (ValueError, lambda: layer.resize(5, new_rows=np.ones((3, 2)))),
    ):
        with pytest.raises(error):
            call()
    assert layer.wte.shape == (3, 2)
    with pytest.raises(IndexError, match="id 3"):
        layer([3])


# Resuming


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


def resumed_by_copy(layer, opt, name):
    return copy.deepcopy((layer, opt))


def resumed_by_pickle(layer, opt, name):
    return pickle.loads(pickle.dumps((layer, opt)))


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


@pytest.mark.parametrize(
    ("name", "options"), [("Adam", {}), ("AdamW", {"weight_decay": 0.1}), ("SGD", {"momentum": 0.9}), ("Adagrad", {})]
)
def test_a_state_of_pytorch_is_taken_over(name, options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    wte, wpe = torch.tensor(rng.standard_normal((7, 4))), torch.tensor(rng.standard_normal((3, 4)))
    theirs = getattr(torch.optim, name)([wte.requires_grad_(), wpe.requires_grad_()], lr=0.05, **options)

    def their_step(ids, dout):
        theirs.zero_grad()
        (torch.nn.functional.embedding(torch.tensor(ids), wte) + wpe).backward(torch.tensor(dout))
        theirs.step()

    some = batches(rng, 20, 7, (2, 3), 4)
    for batch in some[:10]:
        their_step(*batch)
    layer = fe.TokenPositionEmbedding.from_arrays(wte.detach().numpy().copy(), wpe.detach().numpy().copy())
    opt = getattr(fe.optim, name)(layer, lr=9.0, **options)
    opt.load_torch_state_dict(theirs.state_dict())
    assert opt.lr == 0.05
    for batch in some[10:]:
        their_step(*batch)
        train(layer, opt, [batch])
    assert np.allclose(layer.wte, wte.detach().numpy(), rtol=1e-10, atol=1e-13)
    assert np.allclose(layer.wpe, wpe.detach().numpy(), rtol=1e-10, atol=1e-13)
    state = theirs.state_dict()
    state["param_groups"][0]["maximize"] = True
    with pytest.raises(ValueError, match="maximize"):
        opt.load_torch_state_dict(state)


def torch_state(options, **of_parameter):
    """What PyTorch's state_dict() gives for one parameter."""
    return {"state": {0: of_parameter} if of_parameter else {}, "param_groups": [{"params": [0], **options}]}


def test_a_state_of_pytorch_brings_arrays_that_were_not_there():
    """Momentum that comes with the state comes with its buffer; it was dropped once, without a word."""
    layer = fe.Embedding(3, 2, dtype="float64", rng=0)
    before, buffer = layer.weight.copy(), np.arange(6.0).reshape(3, 2)
    opt = fe.optim.SGD(layer, lr=1.0)
    opt.load_torch_state_dict(torch_state({"lr": 0.5, "momentum": 0.5}, momentum_buffer=buffer))
    opt.step()
    assert same_bits(layer.weight, before - 0.5 * (0.5 * buffer))


@pytest.mark.parametrize(
    ("name", "error", "text", "state"),
    [
        ("Adam", ValueError, "amsgrad", torch_state({"amsgrad": True})),
        ("SGD", ValueError, "dampening", torch_state({"dampening": 0.1})),
        ("SparseAdam", ValueError, "weight_decay", torch_state({"weight_decay": 0.1})),
        ("Adam", ValueError, "decoupled", torch_state({"weight_decay": 0.1, "decoupled_weight_decay": True})),
        ("AdamW", ValueError, "decoupled", torch_state({"weight_decay": 0.1, "decoupled_weight_decay": False})),
        ("Adam", ValueError, "whole", torch_state({}, step=2.5, exp_avg=np.zeros((3, 2)), exp_avg_sq=np.zeros((3, 2)))),
        ("Adam", TypeError, "step of parameter 0", torch_state({}, step="2")),
        ("Adam", KeyError, "exp_avg", torch_state({}, step=2)),
        ("Adam", ValueError, "shape", torch_state({}, step=2, exp_avg=np.zeros((3, 2)), exp_avg_sq=np.zeros((2, 2)))),
        ("Adam", TypeError, "state of PyTorch", {"state": []}),
        ("Adam", TypeError, "param_groups", {"state": {}, "param_groups": [{}]}),
        ("Adam", ValueError, "0 parameters", {"state": {}, "param_groups": []}),
    ],
)
def test_a_state_of_pytorch_that_does_not_fit_changes_nothing(name, error, text, state):
    layer = fe.Embedding(3, 2, dtype="float64", rng=0)
    opt = MAKE[name](layer)
    train(layer, opt, [([1], np.ones((1, 2)))])
    before = snapshot(layer, opt), opt.lr
    with pytest.raises(error, match=text):
        opt.load_torch_state_dict(state)
    assert (snapshot(layer, opt), opt.lr) == before


CHANGES = {
    "SGD": {"momentum": (0.0, 0.5, 0.9), "nesterov": (True, False), "weight_decay": (0.0, 0.01)},
    "Adagrad": {"lr_decay": (0.0, 0.1), "eps": (1e-10, 1e-3), "weight_decay": (0.0, 0.01)},
    "Adam": {"betas": ((0.9, 0.999), (0.0, 0.5), (0.5, 0.0)), "eps": (1e-30, 1e-3), "weight_decay": (0.0, 0.01)},
    "AdamW": {"betas": ((0.9, 0.999), (0.99, 0.1)), "eps": (1e-30, 1e-3), "weight_decay": (0.0, 0.5)},
}


@pytest.mark.parametrize("masters", [False, True])
@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "bfloat16"])
@pytest.mark.parametrize("name", list(CHANGES))
def test_options_tables_and_owners_that_change_in_mid_run(name, dtype, masters):
    """Rows take the steps that they missed with the options that those had; in between sizes change and runs go on elsewhere."""
    rng = np.random.default_rng(len(name) + masters)
    layer = fe.Embedding(7, 5, dtype=dtype, rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist(), dtype=dtype)
    opt = getattr(fe.optim, name)(layer, master_rows=masters)
    like_opt = getattr(reference.optim, name)(like, master_rows=masters)
    for step in range(60):
        changed = {"lr": float(rng.choice([0.0, 1e-38, 1e-3, 0.1, 30.0]))}
        option = list(CHANGES[name])[rng.integers(3)]
        changed[option] = CHANGES[name][option][rng.integers(len(CHANGES[name][option]))]
        for key, value in changed.items():
            opt.param_groups[0][key] = value
            setattr(like_opt, key, value)
            assert getattr(opt, key) == value
        n = len(layer.weight) if step % 20 != 13 else int(rng.integers(3, 9))
        if n != len(layer.weight):
            layer.resize(n)
            like.resize(n)
        if step % 20 == 7:
            layer, opt = (resumed_by_pickle, resumed_by_copy)[step % 3 == 0](layer, opt, name)
        ((ids, dout),) = batches(rng, 1, n, (2,), 5, "float64" if dtype == "float64" else "float32")
        train(layer, opt, [(ids, dout)], fused=step % 3 != 0)
        like.backward(*lists(dout, ids), optimizer=like_opt)
    assert same_bits(layer.weight, np.array(like.weight).astype(layer.dtype))


# Groups, several optimisers


def test_groups_have_options_of_their_own():
    a, b = fe.Embedding(4, 2, dtype="float64", rng=0), fe.Embedding(4, 2, dtype="float64", rng=0)
    opt = fe.optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5, "weight_decay": 0.1}], lr=0.1)
    before = a.weight.copy()
    for layer in (a, b):
        layer.backward(np.ones((1, 2)), [1])
    opt.step()
    assert np.allclose(a.weight[1], before[1] - 0.1)
    assert np.allclose(b.weight[1], before[1] - 0.5 * (1 + 0.1 * before[1]))
    assert np.allclose(b.weight[2], before[2] * (1 - 0.5 * 0.1))
    opt.param_groups[1]["lr"] = 0.0
    b_before = b.weight.copy()
    opt.step()
    assert same_bits(b.weight, b_before)
    opt.param_groups[0]["lr"] = -1.0
    a_before = a.weight.copy()
    with pytest.raises(ValueError, match="lr must be from"):
        opt.step()
    assert same_bits(a.weight, a_before)
    with pytest.raises(KeyError, match="momentun"):
        fe.optim.SGD([{"params": [a], "momentun": 0.9}])


def test_every_group_has_every_option():
    """What a schedule reads and writes in PyTorch: `param_groups`, whether an option was given or not."""
    a, b, c = (fe.Embedding(4, 2, dtype="float64", rng=0) for _ in range(3))
    opt = fe.optim.Adam([{"params": a}, {"params": b, "lr": 0.5}, {"params": c}], lr=0.1, betas=(0.8, 0.9))
    groups = opt.param_groups
    assert [group["lr"] for group in groups] == [0.1, 0.5, 0.1]
    assert all(group["betas"] == (0.8, 0.9) and group["weight_decay"] == 0.0 for group in groups)
    for group in groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * 2
    assert ([group["lr"] for group in groups], opt.lr) == ([0.2, 1.0, 0.2], 0.2)
    opt.lr = 0.3
    assert ([group["lr"] for group in groups], opt.lr) == ([0.3, 1.0, 0.3], 0.3)
    groups[2]["lr"] = 0.4
    assert opt.lr == 0.3
    again = fe.optim.Adam([{"params": x, **y} for x, y in ((copy.copy(a), {}), (copy.deepcopy(b), {"lr": 9.0}))], lr=7.0)
    with pytest.raises(ValueError, match="groups of the state must be a list of 2"):
        again.load_state_dict(opt.state_dict())
    other = [fe.Embedding(4, 2, dtype="float64", rng=0) for _ in range(3)]
    again = fe.optim.Adam([{"params": other[0], "lr": 5.0}, {"params": other[1]}, {"params": other[2]}])
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert [group["lr"] for group in again.param_groups] == [0.3, 1.0, 0.4]
    copied = copy.deepcopy(opt)
    copied.lr = 0.6
    assert [group["lr"] for group in copied.param_groups] == [0.6, 1.0, 0.6]
    assert [group["lr"] for group in groups] == [0.3, 1.0, 0.4]
    groups[0]["lr"] = "fast"
    with pytest.raises(TypeError, match="lr must be a number, got 'fast'"):
        opt.step()
    with pytest.raises(AttributeError, match="no learning_rate"):
        opt.learning_rate  # noqa: B018


def test_two_optimisers_take_turns_on_one_layer():
    rng = np.random.default_rng(0)
    layer = fe.Embedding(6, 3, dtype="float64", rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist())
    opts = [MAKE[name](layer) for name in ("Adam", "SGD")]
    like_opts = [like_of(opt, like, "float64") for opt in opts]
    for k, (ids, dout) in enumerate(batches(rng, 20, 6, (2,), 3)):
        layer.backward(dout, ids, optimizer=opts[k // 3 % 2])
        like.backward(*lists(dout, ids), optimizer=like_opts[k // 3 % 2])
    assert same_bits(layer.weight, np.array(like.weight))


# Errors


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


@pytest.mark.fork
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@on_threads
def test_a_forked_child_goes_on_from_rows_that_are_behind():
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


def test_rows_of_a_table_that_is_not_there():
    layer, other = fe.TokenPositionEmbedding(5, 3, 2, rng=0), fe.Embedding(4, 2, rng=0)
    for option in ("trainable_rows", "lr_multipliers"):
        with pytest.raises(KeyError, match=rf"{option} must name tables, which are \['wpe', 'wte'\], got \['wtee'\]"):
            fe.optim.SGD(layer, **{option: {"wtee": [1.0] * 5}})
        fe.optim.SGD([layer, other], **{option: {"weight": [1.0] * 4 if option == "lr_multipliers" else [1]}})
    layer.trainable_rows = {"weight": [1]}
    with pytest.raises(KeyError, match="trainable_rows must name tables"):
        fe.optim.SGD([layer, other])
    with pytest.raises(IndexError, match="99"):
        fe.optim.SGD(other, trainable_rows=[99])
    opt = fe.optim.SGD(other)
    opt.trainable_rows = {"wieght": [1]}
    with pytest.raises(KeyError, match="wieght"):
        opt.step()


@each_optimizer
def test_a_state_says_whose_it_is(name):
    state = MAKE[name](fe.Embedding(4, 2, rng=0)).state_dict()
    for other in MAKE:
        if other != name:
            with pytest.raises(ValueError, match=f"the state is one of {name}, not of {other}"):
                MAKE[other](fe.Embedding(4, 2, rng=0)).load_state_dict(state)
    del state["optimizer"]  # as it was before states said so
    MAKE[name](fe.Embedding(4, 2, rng=0)).load_state_dict(state)
