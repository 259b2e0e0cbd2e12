"""Learning rates that are functions of the step: the bits of rates set by hand; saved, resumed."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
from optimizers import MAKE, batches, each_optimizer, snapshot, train

import fastembed as fe
from fastembed import checkpoint, reference

pytestmark = pytest.mark.on_reference

RATES = [0.1, 0.0, 0.3, 0.2, 1e-3, 0.5, 0.4, 0.0, 0.05, 0.1]  # with restarts, and steps of zero


def rate(step):
    return RATES[step]


def pair(name, dtype="float64"):
    """Two equal layers and optimisers: one with the function, one whose rate is set by hand."""
    made = [fe.Embedding(20, 3, rng=0, dtype=dtype) for _ in range(2)]
    optimizers = [MAKE[name](layer) for layer in made]
    optimizers[0].lr = rate
    return made, optimizers


@each_optimizer
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_steps_have_the_bits_of_rates_set_by_hand(name, dtype):
    (layer, other), (opt, by_hand) = pair(name, dtype)
    for step, one in enumerate(batches(np.random.default_rng(0), len(RATES), 20, (2,), 3, dtype)):
        by_hand.lr = RATES[step]
        train(layer, opt, [one])
        train(other, by_hand, [one])
        if step == 4:
            assert layer(one[0]).tobytes() == other(one[0]).tobytes()
    assert layer.weight.tobytes() == other.weight.tobytes()
    assert opt.lr is rate


@each_optimizer
def test_steps_have_the_bits_of_the_reference(name):
    layer = fe.Embedding(6, 2, rng=0, dtype="float64")
    like = reference.Embedding.from_pretrained(layer.weight.tolist(), dtype="float64")
    opt = getattr(fe.optim, name)(layer, lr=rate)
    like_opt = getattr(reference.optim, name)(like, lr=rate)
    for ids, dout in batches(np.random.default_rng(1), 6, 6, (2,), 2):
        train(layer, opt, [(ids, dout)])
        like.backward(dout.tolist(), ids=ids.tolist(), optimizer=like_opt)
    assert layer.weight.tolist() == like.weight


def test_a_run_is_resumed(tmp_path):
    some = batches(np.random.default_rng(2), len(RATES), 20, (3,), 3)
    (whole, part), (opt, part_opt) = pair("AdamW")
    part_opt.lr = rate
    train(whole, opt, some)
    train(part, part_opt, some[:4])
    checkpoint.save_state(tmp_path / "run", {"layer": part.state_dict(), "optimizer": part_opt.state_dict()})
    state = checkpoint.load_state(tmp_path / "run")
    assert state["optimizer"]["lr"] == RATES[4]
    again = fe.Embedding(20, 3, dtype="float64")
    again_opt = fe.optim.AdamW(again, lr=rate)
    again.load_state_dict(state["layer"])
    again_opt.load_state_dict(state["optimizer"])
    assert (again_opt.lr, again_opt.step_counts) == (rate, [4])
    train(again, again_opt, some[4:])
    copied, copied_opt = pickle.loads(pickle.dumps((part, part_opt)))
    train(copied, copied_opt, some[4:])
    assert again.weight.tobytes() == copied.weight.tobytes() == whole.weight.tobytes()
    plain = fe.optim.AdamW(fe.Embedding(20, 3, dtype="float64"))
    plain.load_state_dict(state["optimizer"])
    assert plain.lr == RATES[4]  # the rate of the next step, for an optimiser without the function


def test_groups_have_functions_of_their_own():
    a, b = (fe.Embedding.from_pretrained(np.ones((2, 1))) for _ in range(2))
    opt = fe.optim.SGD([{"params": a}, {"params": b, "lr": lambda step: 0.5 * (step + 1)}], lr=rate)
    for layer in (a, b, b):
        layer.backward([[1.0]], [0], optimizer=opt)
    assert (a.weight[0, 0], b.weight[0, 0]) == (1.0 - 0.1, 1.0 - 0.5 - 1.0)
    state = opt.state_dict()
    assert (state["lr"], state["groups"]) == (RATES[2], [{"lr": RATES[1]}, {"lr": 1.5}])
    opt.load_state_dict(state)
    assert opt.param_groups[0]["lr"] is rate
    assert callable(opt.param_groups[1]["lr"])
    opt.param_groups[1]["lr"] = 0.25
    b.backward([[1.0]], [1], optimizer=opt)
    assert b.weight[1, 0] == 0.75


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, "1", None, 1e300])
def test_a_rate_that_is_not_valid_changes_nothing(bad):
    layer = fe.Embedding(4, 2, rng=0)
    opt = fe.optim.Adam(layer, lr=lambda step: 0.1 if step < 2 else bad)
    train(layer, opt, batches(np.random.default_rng(3), 2, 4, (2,), 2, "float32"))
    before = copy.deepcopy(snapshot(layer, opt))
    with pytest.raises((TypeError, ValueError), match=r"lr\(2\) must be"):
        layer.backward(np.ones((1, 2)), [0], optimizer=opt)
    assert snapshot(layer, opt) == before
    with pytest.raises((TypeError, ValueError), match=r"lr\(0\) must be"):
        fe.optim.Adam(layer, lr=lambda step: bad)


def test_a_mapped_table_resumes_at_its_step(tmp_path):
    path, some = tmp_path / "table.safetensors", batches(np.random.default_rng(4), 6, 20, (3,), 3)
    whole = fe.Embedding(20, 3, dtype="float64", rng=0)
    train(whole, fe.optim.Adam(whole, lr=rate), some)
    fe.Embedding.create(
        path, (20, 3), "float64", lambda first, end: fe.Embedding(20, 3, dtype="float64", rng=0).weight[first:end]
    ).close()
    for part in (some[:4], some[4:]):
        with fe.Embedding.open(path, "r+") as layer:
            train(layer, fe.optim.Adam(layer, lr=rate), part)
    with fe.Embedding.open(path) as layer:
        assert layer.weight.tobytes() == whole.weight.tobytes()


def test_schedules():
    linear, cosine = fe.schedule.linear(0.5, 10, end=0.1), fe.schedule.cosine(0.5, 10, end=0.1)
    for schedule in (linear, cosine):
        rates = [schedule(step) for step in range(13)]
        assert (rates[0], rates[10:]) == (0.5, [0.1] * 3)
        assert rates[5] == pytest.approx(0.3, abs=1e-15)
        assert all(x > y for x, y in itertools.pairwise(rates[:11]))
        assert pickle.loads(pickle.dumps(schedule))(3) == schedule(3)
    assert [cosine(step) for step in range(10)] == [
        0.5 * (1 - y) + 0.1 * y for y in ((1 - math.cos(math.pi * step / 10)) / 2 for step in range(10))
    ]
    assert [fe.schedule.linear(0.3, 7)(step) for step in range(7)] == [0.3 * (1 - step / 7) for step in range(7)]
    assert [fe.schedule.warmup(0.5, 4)(step) for step in range(6)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]
    warmed = fe.schedule.warmup(linear, 4)
    assert [warmed(step) for step in range(4, 9)] == [linear(step) for step in range(5)]
    assert repr(warmed) == "warmup(linear(0.5, 10, end=0.1), 4)"
    assert "lr=cosine(0.5, 9)" in repr(fe.optim.Adam(fe.Embedding(2, 2), lr=fe.schedule.cosine(0.5, 9)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fe.schedule.linear(-1.0, 3), "lr must be from 0"),
        (lambda: fe.schedule.cosine(1.0, 3, end=math.nan), "end must be from 0"),
        (lambda: fe.schedule.cosine(1.0, 0), "steps must be at least 1, got 0"),
        (lambda: fe.schedule.linear(1.0, 2.5), "steps must be an integer"),
        (lambda: fe.schedule.warmup("fast", 3), "lr must be a number, got 'fast'"),
        (lambda: fe.schedule.warmup(1.0, -3), "steps must be from 0"),
        (lambda: fe.schedule.linear(1.0, 3)(-1), "step must be from 0"),
    ],
)
def test_bad_schedules_are_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
