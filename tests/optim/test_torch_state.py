"""States of PyTorch's optimisers are taken over, or refused whole."""

import numpy as np
import pytest
from common import same_bits
from optimizers import MAKE, batches, snapshot, train

import fastembed as fe

pytestmark = pytest.mark.on_reference


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
    opt.load_torch_state_dict(state)
    assert opt.maximize
    state["param_groups"][0]["amsgrad"] = True
    with pytest.raises(ValueError, match="amsgrad"):
        opt.load_torch_state_dict(state)


def torch_state(options, **of_parameter):
    """What PyTorch's state_dict() gives for one parameter."""
    return {"state": {0: of_parameter} if of_parameter else {}, "param_groups": [{"params": [0], **options}]}


def test_a_state_of_pytorch_brings_arrays_that_were_not_there():
    """Momentum that comes with the state comes with its buffer."""
    layer = fe.Embedding(3, 2, dtype="float64", rng=0)
    before, buffer = layer.weight.copy(), np.arange(6.0).reshape(3, 2)
    opt = fe.optim.SGD(layer, lr=1.0)
    opt.load_torch_state_dict(torch_state({"lr": 0.5, "momentum": 0.5}, momentum_buffer=buffer))
    opt.step()
    assert same_bits(layer.weight, before - 0.5 * (0.5 * buffer))


@pytest.mark.parametrize("of_parameter", [{"momentum_buffer": None}, {"step": 3}, {}])
def test_a_state_of_pytorch_without_momentum_is_one_for_momentum_too(of_parameter):
    layer = fe.Embedding(3, 2, dtype="float64", rng=0)
    opt = fe.optim.SGD(layer, momentum=0.9)
    train(layer, opt, [([1], np.ones((1, 2)))])
    opt.load_torch_state_dict(torch_state({"lr": 0.5, "momentum": 0.9}, **of_parameter))
    before = layer.weight.copy()
    train(layer, opt, [([1], np.ones((1, 2)))])
    assert same_bits(layer.weight[1], before[1] - 0.5)


@pytest.mark.parametrize(
    ("name", "error", "text", "state"),
    [
        ("Adam", ValueError, "amsgrad", torch_state({"amsgrad": True})),
        ("SGD", ValueError, "dampening", torch_state({"dampening": -0.1})),
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


def test_a_pytorch_state_whose_tables_have_taken_different_steps():
    layer = fe.TokenPositionEmbedding(4, 3, 2, rng=0)
    opt = fe.optim.Adam(layer)
    moments = [{"exp_avg": np.zeros((n, 2)), "exp_avg_sq": np.zeros((n, 2))} for n in (4, 3)]
    state = {
        "state": {k: {"step": 5 - k, **arrays} for k, arrays in enumerate(moments)},
        "param_groups": [{"params": [0, 1], "lr": 0.5}],
    }
    with pytest.raises(ValueError, match="wpe of item 0 has taken 4 steps, and another table of it 5"):
        opt.load_torch_state_dict(state)
    assert opt.lr == 0.001
    assert opt.state_dict()["items"][0]["step"] == 0
