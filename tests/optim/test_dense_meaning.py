"""Exact optimisers: the bits of an update of every element, whatever rows the batches touch."""

import math
import threading

import numpy as np
import pytest
from common import DTYPES, examples, same_bits
from hypothesis import given
from hypothesis import strategies as st
from optimizers import gradients, zipf

import fastembed as fe

EXACT = ("Adam", "AdamW")


def dense_adam(w, m, v, g, t, lr, betas, eps, l2, decay):
    """One step of every element, in the order of operations of the reference."""
    r, (b1, b2) = w.dtype.type, betas
    if decay:
        w *= r(1.0 - lr * decay)
    if l2:
        g = g + r(l2) * w
    m *= r(b1)
    m += r(1 - b1) * g
    v *= r(b2)
    v += r(1 - b2) * g * g
    w -= r(lr / (1 - b1**t)) * m / (np.sqrt(v) * r(1 / math.sqrt(1 - b2**t)) + r(eps))


class Pair:
    """A layer with an exact optimiser, and a dense update of a copy beside it."""

    def __init__(self, name, dtype, shape, weight_decay, seed=0):
        self.rng = np.random.default_rng(seed)
        self.layer = fe.Embedding(*shape, dtype=dtype, rng=seed)
        self.layer.weight[0] = 0
        self.layer.weight[1] *= 1e-37 if dtype == "float32" else 1e-300
        self.opt = getattr(fe.optim, name)(self.layer, weight_decay=weight_decay)
        self.decays = (weight_decay, 0.0) if name == "Adam" else (0.0, weight_decay)
        self.w = self.layer.weight.copy()
        self.m, self.v, self.t = np.zeros_like(self.w), np.zeros_like(self.w), 0

    def step(self, ids, dout, fused=True):
        self.t += 1
        if fused:
            self.layer.backward(dout, ids, optimizer=self.opt)
        else:
            self.layer.backward(dout, ids)
            self.opt.step()
            self.opt.zero_grad()
        g = np.zeros_like(self.w)
        np.add.at(g, ids, dout)
        dense_adam(self.w, self.m, self.v, g, self.t, self.opt.lr, self.opt.betas, self.opt.eps, *self.decays)

    def check(self):
        state = self.opt.state_dict()["items"][0]
        assert same_bits(self.layer.tables["weight"], self.w)
        assert same_bits(state["exp_avg"]["weight"], self.m)
        assert same_bits(state["exp_avg_sq"]["weight"], self.v)


SCHEDULES = {
    "random": lambda rng, t: 0.1 * rng.random(),
    "with zeros": lambda rng, t: 0.1 * rng.random() if t % 7 else 0.0,
    "warm restarts": lambda rng, t: 0.05 * (1 + math.cos(math.pi * (t % 60) / 60)),
    "warm-up": lambda rng, t: 0.1 * min(1.0, t / 300) ** 8,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("name", "weight_decay"), [("Adam", 0.0), ("Adam", 0.01), ("AdamW", 0.0), ("AdamW", 0.3)])
def test_exact_optimisers_are_the_dense_update_to_the_bit(dtype, schedule, name, weight_decay):
    pair = Pair(name, dtype, (60, 19), weight_decay)
    rng = pair.rng
    for t in range(1, 301):
        pair.opt.lr = SCHEDULES[schedule](rng, t)
        if t % 75 == 0:
            pair.opt.betas, pair.opt.eps = (rng.random(), rng.random()), 10.0 ** rng.integers(-12, -2)
        ids = zipf(rng, 60, 4)
        assert same_bits(pair.layer(ids), pair.w[ids])  # what is read mid-run is up to date
        pair.step(ids, gradients(rng, (4, 19), dtype), fused=t % 3 != 0)
        if t % 100 == 50:
            assert same_bits(pair.layer.weight, pair.w)
    pair.opt.flush()
    pair.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
def test_rows_that_miss_thousands_of_steps(dtype, name):
    """More than are recorded; averages pass through the subnormals until they move no more."""
    pair = Pair(name, dtype, (12, 5), 0.0)
    pair.opt.lr = 0.01
    pair.step(np.arange(12), gradients(pair.rng, (12, 5), dtype))
    for _ in range(2500):
        pair.step(np.array([3]), np.ones((1, 5), dtype))
    assert same_bits(pair.layer([7, 3]), pair.w[[7, 3]])
    pair.check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinite_and_missing_numbers_go_where_the_dense_update_takes_them(dtype):
    pair = Pair("Adam", dtype, (8, 6), 0.0)
    with np.errstate(all="ignore"):
        for k, bad in enumerate((np.inf, -np.inf, np.nan, np.finfo(dtype).max)):
            dout = np.ones((1, 6), dtype)
            dout[0, k] = bad
            pair.step(np.array([k]), dout)
        for _ in range(30):
            pair.step(np.array([6]), np.ones((1, 6), dtype))
    pair.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_infinite_rows_are_no_reason_to_skip_steps(isa, dtype, weight_decay):
    """A step that moves no finite number may make NaN of an infinite one: by decay, by its size."""
    pair = Pair("Adam", dtype, (6, 128), weight_decay)
    largest = np.finfo(dtype).max
    pair.layer.weight[1:4] = pair.w[1:4] = [[np.inf], [-np.inf], [largest / 4]]
    with np.errstate(all="ignore"):
        pair.opt.lr, pair.opt.eps = 1e-3, 1e-30
        sizes = np.array([[1e10], [1e10], [largest**0.5 * 8], [largest**0.5 * 8]], dtype)
        pair.step(np.array([1, 2, 3, 4]), np.repeat(sizes, 128, axis=1))
        for betas, lr in (((0.9, 0.999), 1e-3), ((0.9, 0.999), 1e38), ((0.9, 0.0), 1e-3)):  # 0 times infinity is NaN
            pair.opt.betas, pair.opt.lr = betas, lr
            for _ in range(20):
                pair.step(np.array([0]), np.ones((1, 128), dtype))
            if lr < 1:
                assert same_bits(pair.layer([1, 2, 3]), pair.w[[1, 2, 3]])
    pair.check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_second_average_that_becomes_a_nan_reaches_rows_that_had_converged(dtype):
    """Its root is infinite, so that nothing moves, until a beta2 of 0 makes NaN of it."""
    pair = Pair("Adam", dtype, (3, 40), 0.0)
    with np.errstate(all="ignore"):
        pair.step(np.array([1]), np.full((1, 40), np.finfo(dtype).max ** 0.5 * 64, dtype))
        for betas in ((0.1, 0.999), (0.1, 0.0)):
            pair.opt.betas = betas
            for _ in range(900):
                pair.step(np.array([0]), np.ones((1, 40), dtype))
    assert np.isnan(pair.w[1]).all()
    pair.check()


@pytest.mark.parametrize("n_steps", [3, 12])
@pytest.mark.parametrize("weight_decay", [0.01, 0.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_sign_of_averages_that_underflow(dtype, weight_decay, n_steps):
    """Half of the smallest negative number is -0; a step without decay makes 0 of it."""
    pair = Pair("Adam", dtype, (2, 5), weight_decay)
    smallest = np.finfo(dtype).smallest_subnormal
    pair.opt.betas = (0.5, 0.9)
    pair.layer.weight[0] = pair.w[0] = -100 * smallest
    pair.step(np.array([0]), np.full((1, 5), -4 * smallest, dtype))
    for _ in range(n_steps):
        pair.step(np.array([1]), np.ones((1, 5), dtype))
    assert np.signbit(pair.m[0]).all() == (weight_decay != 0)
    assert not pair.m[0].any()
    pair.check()


@examples(100)
@given(st.data())
def test_any_schedule_of_steps(data):
    """Learning rates, betas, gaps and sizes on both sides of each condition for skipping steps."""
    dtype = data.draw(st.sampled_from(DTYPES))
    pair = Pair(
        data.draw(st.sampled_from(EXACT)),
        dtype,
        (5, data.draw(st.sampled_from([1, 4, 17]))),
        data.draw(st.sampled_from([0, 0.1])),
    )
    rates = st.sampled_from([0.0, 1e-9, 1e-3, 0.1, 10.0])
    for _ in range(data.draw(st.integers(1, 6))):
        pair.opt.betas = data.draw(st.sampled_from([(0.9, 0.999), (0.0, 0.9), (0.99, 0.1), (0.5, 0.0)]))
        size = 10.0 ** data.draw(st.integers(-40 if dtype == "float32" else -300, 3))
        row = data.draw(st.integers(0, 4))
        pair.opt.lr = data.draw(rates)
        pair.step(np.array([row]), (size * np.ones((1, pair.w.shape[1]))).astype(dtype))
        later = data.draw(rates)
        for _ in range(data.draw(st.integers(0, 60))):
            pair.opt.lr = later
            pair.step(np.array([4]), np.ones((1, pair.w.shape[1]), dtype))
    pair.check()


def test_readers_in_other_threads_see_whole_steps():
    """Pending updates of rows that many threads read are applied once."""
    pair = Pair("Adam", "float32", (400, 64), 0.0)
    wrong = []

    def read(seed):
        ids = np.random.default_rng(seed).integers(0, 400, 300)
        for _ in range(20):
            if not same_bits(pair.layer(ids), pair.w[ids]):
                wrong.append(seed)

    pair.layer.eval()
    for _ in range(3):
        for _ in range(20):
            pair.step(zipf(pair.rng, 400, 16), gradients(pair.rng, (16, 64), "float32"))
        readers = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert wrong == []
    pair.check()


def test_threads_that_train_one_layer_take_one_step_after_the_other():
    layer, alone = (fe.Embedding(300, 64, dtype="float64", rng=0) for _ in range(2))
    opt, opt_alone = fe.optim.Adam(layer), fe.optim.Adam(alone)

    def work(layer, opt, n):
        for _ in range(n):
            layer.backward(np.ones((200, 64)), np.arange(200), optimizer=opt)

    threads = [threading.Thread(target=work, args=(layer, opt, 50)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work(alone, opt_alone, 200)
    assert opt.state_dict()["items"][0]["step"] == 200
    assert same_bits(layer.weight, alone.weight)


@pytest.mark.on_reference
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_a_momentum_that_rounds_to_zero_is_one(dtype, nesterov):
    layer = fe.Embedding.from_pretrained(np.ones((1, 1), dtype))
    opt = fe.optim.SGD(layer, lr=0.25, momentum=1e-46, dampening=0.0 if nesterov else 0.5, nesterov=nesterov)
    for _ in range(2):
        layer.backward([[1.0]], [0], optimizer=opt)
    (item,) = opt.state_dict()["items"]
    assert item["momentum_buffer"]["weight"] == (1.0 if nesterov else 0.5)
    assert layer.weight == (0.5 if nesterov else 0.625)


@pytest.mark.on_reference
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RowWiseAdagrad", "Adam"])
def test_a_weight_decay_that_rounds_to_zero_is_one(name):
    layer = fe.Embedding.from_pretrained(np.full((1, 1), np.inf, "f4"))
    layer.backward([[1.0]], [0], optimizer=getattr(fe.optim, name)(layer, lr=0.1, weight_decay=1e-46))
    assert np.isnan(layer.weight).all()  # 0 times infinity


@pytest.mark.on_reference
@pytest.mark.parametrize("flushes", [False, True])
def test_a_dampening_above_one_leaves_minus_zeros(flushes):
    layer = fe.Embedding.from_pretrained(np.ones((2, 2), "f4"))
    opt = fe.optim.SGD(layer, lr=0.1, momentum=0.25, dampening=2.0)
    for _ in range(2):
        layer.backward(np.ones((1, 2)), [0], optimizer=opt)
    for _ in range(200):  # the other row's buffer, which is negative, underflows
        layer.backward(np.ones((1, 2)), [1], optimizer=opt)
        if flushes:
            opt.flush()
    buffer = opt.state_dict()["items"][0]["momentum_buffer"]["weight"][0]
    assert same_bits(buffer, np.full(2, -0.0, "f4"))


@pytest.mark.on_reference
@pytest.mark.parametrize("multiplier", [1.0, 2.0**-149 / 1e-3])
def test_learning_rates_that_are_subnormal(multiplier):
    unit = 2.0**-149  # the smallest float32: rates round to multiples of it, and 1.49 and 1.51 to 1 and 2
    rows = np.array([[1.5, 1.25, 1.75, 1.5]], "f2") * np.float16(2.0**-11)
    layer = fe.Embedding.from_pretrained(np.concatenate([rows, rows]))
    scale = unit if multiplier == 1 else 1e-3
    opt = fe.optim.SGD(layer, lr=0.0, momentum=1.0, lr_multipliers=[multiplier, 1.0])
    layer.backward(np.full((1, 4), 2.0**-12.3 * 1.25 * 2.0**-11 / unit, "f4"), [0], optimizer=opt)
    for lr in (1.49 * scale, 1.51 * scale):
        opt.lr = lr
        for _ in range(20):
            layer.backward(np.zeros((1, 4), "f4"), [1], optimizer=opt)
    assert (layer.weight[0] < rows[0]).all()  # updates of 1 unit are rounded away, those of 2 are not


@pytest.mark.on_reference
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("momentum", [1e-46, 1e-40, 1e-30])
def test_rows_miss_steps_of_a_tiny_nesterov_momentum(dtype, momentum):
    """The numerator of an update may grow again, from momentum times a large gradient."""
    lazy, flushed = (fe.Embedding.from_pretrained(np.ones((2, 3), dtype)) for _ in range(2))
    for layer in (lazy, flushed):
        opt = fe.optim.SGD(layer, lr=0.5, momentum=momentum, nesterov=True)
        layer.backward([[1.0, -2.0, 6e4]], [0], optimizer=opt)
        for number in range(20):
            opt.lr = 0.5 if number != 15 else 2.0**90
            layer.backward([[1.0, 1.0, 1.0]], [1], optimizer=opt)
            if layer is flushed:
                opt.flush()
    assert same_bits(lazy.weight, flushed.weight)


@pytest.mark.on_reference
def test_a_loaded_minus_zero_becomes_zero_in_rows_that_miss_steps():
    """As in a step of every element, which adds the square of a gradient of 0."""
    layer = fe.Embedding.from_pretrained(np.ones((2, 3), "f4"))
    opt = fe.optim.Adam(layer, lr=0.1)
    state = opt.state_dict()
    for moment in ("exp_avg", "exp_avg_sq"):
        state["items"][0][moment]["weight"][0] = -0.0
    opt.load_state_dict(state)
    for _ in range(8):
        layer.backward(np.ones((1, 3), "f4"), [1], optimizer=opt)
    (item,) = opt.state_dict()["items"]
    for moment in ("exp_avg", "exp_avg_sq"):
        assert same_bits(item[moment]["weight"][0], np.zeros(3, "f4"))
