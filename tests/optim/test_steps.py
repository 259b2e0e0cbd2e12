"""SGD and Adam over layers and parameters: the reference's bits, the textbook formula, state."""

import copy

import numpy as np
import pytest
from common import DTYPES, lists, same_bits

import fastembed as fe
from fastembed import reference


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.3}),
        ("Adam", {"lr": 0.01}),
        ("Adam", {"lr": 0.02, "betas": (0.85, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
        ("Adam", {"lr": 0.02, "betas": (0.0, 0.5), "eps": 1e-10}),
    ],
)
def test_the_reference_to_the_bit(dtype, name, options):
    rng = np.random.default_rng(0)
    wte, wpe, w = (rng.standard_normal(s).astype(dtype) for s in ((9, 4), (5, 4), (3, 4)))
    layer, parameter = fe.TokenPositionEmbedding.from_arrays(wte, wpe), fe.Parameter(w)
    like = reference.TokenPositionEmbedding.from_arrays(*lists(wte, wpe), dtype=dtype)
    like_parameter = reference.Parameter(w.tolist())
    opt = getattr(fe.optim, name)([layer, parameter], **options)
    like_opt = getattr(reference.optim, name)([like, like_parameter], **options, dtype=dtype)
    for step in range(30):
        opt.lr = like_opt.lr = options["lr"] * (1 - step / 30)
        if step % 5 != 3:
            ids, dout = rng.integers(0, 9, (3, 4)), rng.standard_normal((3, 4, 4)).astype(dtype)
            layer.backward(dout, ids)
            like.backward(*lists(dout, ids))
            parameter.grad = rng.standard_normal((3, 4)).astype(dtype)
            like_parameter.grad = parameter.grad.tolist()
        opt.step()
        like_opt.step()
        opt.zero_grad()
        like_opt.zero_grad()
        for got, expected in ((layer.wte, like.wte), (layer.wpe, like.wpe), (parameter.data, like_parameter.data)):
            assert same_bits(got, np.array(expected, dtype))


def test_adam_is_the_textbook_formula():
    """Against the formula in its usual order, in plain NumPy: the same numbers to rounding."""
    rng = np.random.default_rng(1)
    w = fe.Parameter(rng.standard_normal(50))
    expected, m, v = w.data.copy(), np.zeros(50), np.zeros(50)
    opt = fe.optim.Adam(w, lr=0.1, betas=(0.8, 0.95), eps=1e-8)
    for t in range(1, 20):
        w.grad = rng.standard_normal(50)
        m, v = 0.8 * m + 0.2 * w.grad, 0.95 * v + 0.05 * w.grad**2
        expected -= 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
        opt.step()
    assert np.allclose(w.data, expected, rtol=1e-12, atol=1e-14)


def test_untouched_rows_go_on_moving():
    layer = fe.Embedding(6, 2, dtype="float64", rng=0)
    opt = fe.optim.Adam(layer, lr=0.1)
    layer.backward(np.ones((1, 2)), [4])
    opt.step()
    opt.zero_grad()
    before = layer.weight.copy()
    opt.step()
    moved = np.any(layer.weight != before, axis=1)
    assert moved.tolist() == [False, False, False, False, True, False]


def test_frozen_layers_stay():
    table = np.ones((3, 2))
    layer = fe.Embedding.from_pretrained(table, freeze=True)
    opt = fe.optim.SGD([layer, fe.Embedding(2, 2, rng=0)], lr=1.0)
    layer.backward(np.ones((1, 2)), [1])
    opt.step()
    assert np.all(table == 1)
    table.flags.writeable = False
    with pytest.raises(ValueError, match="weight of item 0 is read-only"):
        fe.optim.SGD(fe.Embedding.from_pretrained(table), lr=1.0)


@pytest.mark.parametrize("make", [lambda i: fe.optim.Adam(i, lr=0.1, weight_decay=0.01), lambda i: fe.optim.SGD(i, lr=0.1)])
def test_state_resumes_to_the_bit(make):
    rng = np.random.default_rng(3)
    batches = [(rng.integers(0, 7, 5), rng.standard_normal((5, 3))) for _ in range(12)]

    def train(layer, opt, some):
        for ids, dout in some:
            opt.zero_grad()
            layer.backward(dout, ids)
            opt.step()

    whole = fe.Embedding(7, 3, dtype="float64", rng=0)
    train(whole, make(whole), batches)
    first = fe.Embedding(7, 3, dtype="float64", rng=0)
    opt = make(first)
    train(first, opt, batches[:6])
    state = copy.deepcopy(opt.state_dict())
    second = copy.deepcopy(first)
    resumed = make(second)
    resumed.lr = 5.0
    resumed.load_state_dict(state)
    assert resumed.lr == opt.lr
    train(second, resumed, batches[6:])
    assert same_bits(second.weight, whole.weight)


def test_a_state_that_does_not_fit_changes_nothing():
    layer = fe.Embedding(4, 2, rng=0)
    opt = fe.optim.Adam(layer, lr=0.1)
    layer.backward(np.ones((1, 2)), [1])
    opt.step()
    before = copy.deepcopy(opt.state_dict())
    for error, change in (
        (KeyError, {"lr": None}),
        (ValueError, {"items": []}),
        (ValueError, {"betas": (1.0, 0.5)}),
        (ValueError, {"items": [{**before["items"][0], "exp_avg": {"weight": np.zeros((3, 2))}}]}),
        (KeyError, {"items": [{**before["items"][0], "exp_avg": {"wte": np.zeros((4, 2))}}]}),
        (ValueError, {"items": [{**before["items"][0], "step": -1}]}),
    ):
        state = {**copy.deepcopy(before), **change}
        if change.get("lr", 0) is None:
            del state["lr"]
        with pytest.raises(error):
            opt.load_state_dict(state)
        after = opt.state_dict()
        assert after["items"][0]["step"] == 1
        assert same_bits(after["items"][0]["exp_avg"]["weight"], before["items"][0]["exp_avg"]["weight"])
        assert after["betas"] == before["betas"]


def test_bad_arguments():
    layer = fe.Embedding(3, 2, rng=0)
    for error, text, call in (
        (ValueError, r"lr must be from 0\.0 to 3\.4.*, got -1", lambda: fe.optim.SGD(layer, lr=-1)),
        (ValueError, r"lr must be from 0\.0", lambda: fe.optim.Adam(layer, lr=float("nan"))),
        (ValueError, r"betas\[1\] must be at least 0\.0 and below 1, got 1\.0", lambda: fe.optim.Adam(layer, betas=(0.9, 1.0))),
        (ValueError, "eps must be from", lambda: fe.optim.Adam(layer, eps=-1e-8)),
        (ValueError, "weight_decay must be from", lambda: fe.optim.Adam(layer, weight_decay=-1.0)),
        (ValueError, "weight of item 1 must not overlap weight of item 0", lambda: fe.optim.SGD([layer, layer])),
        (TypeError, "item 0 must be a layer or a Parameter, got ndarray", lambda: fe.optim.SGD([np.zeros(3)])),
        (TypeError, "lr must be a number, got None", lambda: fe.optim.SGD(layer, lr=None)),
        (TypeError, "betas must be two numbers", lambda: fe.optim.Adam(layer, betas=0.9)),
        (ValueError, "eps must be from", lambda: fe.optim.Adam(layer, eps=0.0)),
        (ValueError, "lr must be from", lambda: fe.optim.SGD(layer, lr=1e300)),
        (TypeError, "expected a layer", lambda: fe.optim.SGD(5)),
        (TypeError, "array must be float32 or float64", lambda: fe.Parameter(np.zeros(3, int))),
    ):
        with pytest.raises(error, match=text):
            call()


def test_an_error_in_a_step_moves_nothing():
    layer, parameter = fe.Embedding(3, 2, dtype="float64", rng=0), fe.Parameter(np.ones(4))
    opt = fe.optim.Adam([layer, parameter], lr=0.1)
    layer.backward(np.ones((1, 2)), [1])
    before = layer.weight.copy()
    parameter.grad = np.ones(5)
    with pytest.raises(ValueError, match=r"grad must have shape \(4,\), got \(5,\)"):
        opt.step()
    assert same_bits(layer.weight, before)
    assert [item["step"] for item in opt.state_dict()["items"]] == [0, 0]


def test_a_table_that_became_read_only_moves_nothing():
    first, second = fe.Parameter(np.ones(4)), fe.Embedding(3, 2, dtype="float64", rng=0)
    opt = fe.optim.Adam([first, second], lr=0.1)
    first.grad = np.ones(4)
    second.weight.flags.writeable = False
    with pytest.raises(ValueError, match="weight of item 1 is read-only"):
        opt.step()
    assert np.all(first.data == 1)
    assert not opt.state_dict()["items"][0]["exp_avg"]["data"].any()
    with pytest.raises(AttributeError):
        first.data = np.ones(5)


def test_a_parameter_of_no_axes():
    p = fe.Parameter(np.array(2.0))
    p.grad = np.array(1.0)
    opt = fe.optim.Adam(p, lr=0.5)
    opt.step()
    assert abs(float(p.data) - 1.5) < 1e-6
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))


@pytest.mark.on_reference
@pytest.mark.parametrize("fused", [False, True])
def test_items_without_a_gradient_may_take_no_step(fused):
    """What PyTorch does where a gradient is None; by default they step with zeros."""
    rng = np.random.default_rng(3)
    layers, likes = [], []
    for _ in range(2):
        layers.append(fe.Embedding(5, 3, dtype="float64", rng=rng))
        likes.append(reference.Embedding.from_pretrained(layers[-1].weight.tolist()))
    parameter, like_parameter = fe.Parameter(np.ones(3)), reference.Parameter([1.0] * 3)
    opt = fe.optim.AdamW([*layers, parameter], lr=0.1, step_without_grad=False)
    like_opt = reference.optim.AdamW([*likes, like_parameter], lr=0.1, step_without_grad=False)
    for step in range(12):
        k = step % 2
        ids, dout = rng.integers(0, 5, 4), rng.standard_normal((4, 3))
        layers[k].backward(dout, ids, optimizer=opt if fused else None)
        likes[k].backward(*lists(dout, ids), optimizer=like_opt if fused else None)
        if step % 3 == 0:
            parameter.grad, like_parameter.grad = np.full(3, 0.5), [0.5] * 3
        for of in (opt, like_opt):
            of.step()
            of.zero_grad()
    assert opt.step_counts == like_opt.steps == [6, 6, 4]
    for layer, like in zip(layers, likes, strict=True):
        assert same_bits(layer.weight, np.array(like.weight))
    assert same_bits(parameter.data, np.array(like_parameter.data))
    with pytest.raises(TypeError, match="step_without_grad must be True or False, got 1"):
        fe.optim.SGD(layers, step_without_grad=1)
