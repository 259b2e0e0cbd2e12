"""Optimisers of half precision: master rows and random rounding keep what is rounded off."""

import copy
import functools

import ml_dtypes
import numpy as np
import pytest
from common import needs_c, same_bits
from halves import DTYPE, HALVES, rounded, table_of

import fastembed as fe
from fastembed import reference
from fastembed._kernels import backend

pytestmark = pytest.mark.on_reference

OPTIMIZERS = {
    "SGD": {"momentum": 0.9, "weight_decay": 0.01}, "Adagrad": {"weight_decay": 0.02}, "RowWiseAdagrad": {"weight_decay": 0.1},
    "Adam": {"weight_decay": 0.01}, "AdamW": {"weight_decay": 0.1}, "SparseAdam": {},
}  # fmt: skip


@pytest.mark.slow_on_reference
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("rounding", [{}, {"master_rows": True}, {"stochastic_rounding": 12345}], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_the_reference(isa, half, rounding, name):
    rng = np.random.default_rng(3)
    wte, wpe = table_of(rng, (7, 70), half, 1), table_of(rng, (3, 70), half, 1)
    layer = fe.TokenPositionEmbedding.from_arrays(wte.copy(), wpe.copy())
    like = reference.TokenPositionEmbedding.from_arrays(wte.astype("f8").tolist(), wpe.astype("f8").tolist(), dtype=half)
    opt = getattr(fe.optim, name)(layer, lr=0.1, **OPTIMIZERS[name], **rounding)
    like_opt = getattr(reference.optim, name)(like, lr=0.1, **OPTIMIZERS[name], **rounding)
    for step in range(8):
        opt.lr = like_opt.lr = 0.1 / (step + 1)
        ids, dout = rng.integers(0, 7, (2, 3)), rng.standard_normal((2, 3, 70)).astype("f4")
        got, expected = layer(ids), like(ids.tolist())
        assert same_bits(got, rounded(expected, half))
        if step % 2:
            layer.backward(dout, optimizer=opt)
            like.backward(dout.tolist(), optimizer=like_opt)
        else:
            layer.backward(dout)
            like.backward(dout.tolist())
            for optimizer in (opt, like_opt):
                optimizer.step()
                optimizer.zero_grad()
    assert same_bits(layer.wte, rounded(like.wte, half))
    assert same_bits(layer.wpe, rounded(like.wpe, half))
    for state, arrays in opt.state_dict()["items"][0].items():
        if state not in ("step", "master"):
            expected = like_opt.state(0)[state]["wte"]
            assert same_bits(arrays["wte"].reshape(len(expected), -1), np.array(expected, "f4"))


@needs_c
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("rounding", [{}, {"master_rows": True}, {"stochastic_rounding": 12345}], ids=str)
@pytest.mark.parametrize("name", ["RowWiseAdagrad", "AdamW"])
def test_rows_of_several_strips(half, rounding, name):
    """Small steps, which masters keep and rounding loses, in columns that C takes in two parts."""
    rng = np.random.default_rng(4)
    table, dout = table_of(rng, (3, 2100), half, 1), rng.standard_normal((2, 2100)).astype("f4")
    layer = fe.Embedding.from_pretrained(table.copy(), freeze=False)
    like = reference.Embedding.from_pretrained(table.astype("f8").tolist(), dtype=half)
    opt, like_opt = (getattr(m, name)(of, lr=1e-4, **rounding) for m, of in ((fe.optim, layer), (reference.optim, like)))
    for ids in ([0, 1], [1, 2], [2, 0], [1, 0]):
        layer.backward(dout, ids, optimizer=opt)
        like.backward(dout.tolist(), ids, optimizer=like_opt)
    assert same_bits(layer([0, 1, 2]), rounded(like([0, 1, 2]), half))


LATE = {
    "AdamW": {"weight_decay": 0.01}, "AdamW, decay that halves feel": {"weight_decay": 0.8}, "SGD": {"momentum": 0.8},
    "Adagrad": {}, "AdamW, random": {"weight_decay": 0.0, "stochastic_rounding": 5},
}  # fmt: skip


def _train_late(module, layer, name, gradient):
    """Twice one gradient and steps without one. At last their rates are zero or rise."""
    opt, ids = getattr(module, name.partition(",")[0])(layer, lr=0.01, **LATE[name]), list(range(len(gradient)))
    for rates in ([0.01] * 50, [0.005, 0.0, 0.005, 0.0] * 6 + [0.01] * 4):
        layer(ids)
        layer.backward(gradient, ids, optimizer=opt)
        for opt.lr in rates:
            opt.step()
    return opt


def _late_inputs(half):
    """A row with weights and gradients of all sizes, infinity and NaN among them.

    In each other row all weights are as close to their neighbours as can be, and stop together.
    """
    rng = np.random.default_rng(8)
    gradient = rng.choice([-1.0, 1.0], (9, 33))
    table = rng.choice([-1.98, 1.98], (9, 33)) * 2.0 ** -np.arange(9)[:, None]
    table[0] = 10.0 ** np.linspace(-6, 2, 33)
    table[0, :6] = [0.0, -0.0, np.inf, np.nan, 1e-7, 1.0]
    gradient[0] *= 10.0 ** rng.integers(-9, 3, 33)
    return table.astype(DTYPE[half]), gradient.astype("f4")


@functools.cache
def _late_reference(half, name):
    table, gradient = _late_inputs(half)
    like = reference.Embedding.from_pretrained(table.astype("f8").tolist(), dtype=half)
    opt = _train_late(reference.optim, like, name, gradient.tolist())
    return rounded(like.weight, half), {state: np.array(rows["weight"], "f4") for state, rows in opt.state(0).items()}


@pytest.mark.slow_on_reference
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", LATE)
def test_rows_that_wait_long_are_the_reference(isa, half, name):
    """Each pending step is rounded, also where they are skipped because none changes a bit."""
    table, gradient = _late_inputs(half)
    layer = fe.Embedding.from_pretrained(table)
    opt = _train_late(fe.optim, layer, name, gradient)
    weight, states = _late_reference(half, name)
    assert same_bits(layer.weight, weight)
    for state, expected in states.items():
        assert same_bits(opt.state_dict()["items"][0][state]["weight"].reshape(len(expected), -1), expected)


@pytest.mark.parametrize("half", HALVES)
def test_random_rounding_of_what_is_too_large(half):
    """Beyond the largest number, infinity and NaN are rounded as without randomness."""
    wte, wpe = np.ones((7, 1), DTYPE[half]), np.ones((1, 1), DTYPE[half])
    dout = np.array([[1e5], [-1e5], [3.4e38], [-3.4e38], [np.inf], [np.nan], [1.0]], "f4")
    layer = fe.TokenPositionEmbedding.from_arrays(wte.copy(), wpe)
    like = reference.TokenPositionEmbedding.from_arrays([[1.0] for _ in range(7)], [[1.0]], dtype=half)
    opt = fe.optim.SGD(layer, lr=1.0, stochastic_rounding=3)
    like_opt = reference.optim.SGD(like, lr=1.0, stochastic_rounding=3)
    layer.backward(dout[:, None], np.arange(7)[:, None], optimizer=opt)
    like.backward(dout[:, None].tolist(), [[i] for i in range(7)], optimizer=like_opt)
    assert same_bits(layer.wte, rounded(like.wte, half))


@needs_c
@pytest.mark.parametrize("half", HALVES)
def test_threads_do_not_change_random_rounding(half):
    rng = np.random.default_rng(4)
    table, batches = table_of(rng, (4_000, 64), half), [rng.integers(0, 4_000, 3_000) for _ in range(4)]
    douts, results = rng.standard_normal((4, 3_000, 64)).astype("f4"), []
    for n_threads in (1, 2, 3, 8):
        with fe.threads(n_threads):
            layer = fe.Embedding.from_pretrained(table.copy())
            opt = fe.optim.AdamW(layer, stochastic_rounding=7)
            for ids, dout in zip(batches, douts, strict=True):
                layer.backward(dout, ids, optimizer=opt)
            results.append(layer.weight.copy())
    assert all(same_bits(result, results[0]) for result in results)


@pytest.mark.slow_on_reference
@pytest.mark.parametrize("half", HALVES)
def test_small_steps_are_kept_by_masters_and_on_average_by_random_rounding(half):
    """300 steps of a hundredth of the distance between numbers, of which each is rounded off."""
    unit = float(ml_dtypes.finfo(DTYPE[half]).eps)
    width = 2_000 if backend.name == "c" else 200
    ends = {}
    for name, rounding in (("nearest", {}), ("master", {"master_rows": True}), ("random", {"stochastic_rounding": 1})):
        layer = fe.Embedding.from_pretrained(np.ones((1, width), DTYPE[half]))
        opt = fe.optim.SGD(layer, lr=unit / 100, **rounding)
        for _ in range(300):
            layer.backward(np.full((1, width), -1.0, "f4"), [0], optimizer=opt)
        ends[name] = layer.weight.astype("f8").mean() - 1
    assert ends["nearest"] == 0
    assert abs(ends["master"] - 3 * unit) <= unit / 100
    deviation = (300 * 0.01 * 0.99 / width) ** 0.5 * unit
    assert abs(ends["random"] - 3 * unit) <= 3.8 * deviation


def test_a_master_gives_way_to_a_row_that_somebody_wrote():
    layer = fe.Embedding.from_pretrained(np.ones((2, 3), np.float16))
    opt = fe.optim.SGD(layer, lr=1e-5, master_rows=True)
    for _ in range(10):
        layer.backward(np.ones((1, 3), "f4"), [0], optimizer=opt)
    layer.weight[0] = 5.0
    layer.backward(np.ones((1, 3), "f4"), [0], optimizer=opt)
    assert same_bits(opt.state_dict()["items"][0]["master"]["weight"][0], np.full(3, np.float32(5.0) - np.float32(1e-5)))
    assert (layer.weight[0] == 5).all()


def test_a_master_gives_way_element_by_element():
    """In the reference too: what nobody wrote keeps what rounding would lose."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((2, 4)).astype(np.float16)
    layer = fe.Embedding.from_pretrained(table.copy())
    like = reference.Embedding.from_pretrained(table.astype(float).tolist(), dtype="float16")
    opt = fe.optim.SGD(layer, lr=1e-4, master_rows=True)
    like_opt = reference.optim.SGD(like, lr=1e-4, master_rows=True, dtype="float16")
    for step in range(12):
        if step == 6:
            layer.weight[0, 1] = like.weight[0][1] = 5.0
        layer.backward(np.ones((1, 4), "f4"), [0], optimizer=opt)
        like.backward(np.ones((1, 4)).tolist(), [0], optimizer=like_opt)
    assert same_bits(layer.weight, rounded(like.weight, "float16"))
    master = np.array(like_opt._states[0]["weight"][0][-1], "f4")
    assert same_bits(opt.state_dict()["items"][0]["master"]["weight"][0], master)


@pytest.mark.parametrize("half", HALVES)
def test_masters_are_judged_element_by_element(half):
    """A NaN, a zero of the other sign, a written element: the rest of the row loses nothing."""
    table = np.ones((1, 5), DTYPE[half])
    layer = fe.Embedding.from_pretrained(table.copy())
    like = reference.Embedding.from_pretrained(table.astype("f8").tolist(), dtype=half)
    options = {"lr": 1e-4, "master_rows": True}
    opt, like_opt = fe.optim.SGD(layer, **options), reference.optim.SGD(like, **options)
    for k in range(40):
        dout = np.array([[1.0, 2.0, np.nan if k == 3 else 1.0, 1.0, 0.0]], "f4")
        layer.backward(dout, [0], optimizer=opt)
        like.backward(dout.tolist(), [0], optimizer=like_opt)
        if k == 10:
            layer.weight[0, 3:] = like.weight[0][3:] = [2.0, -0.0]
        assert same_bits(layer.weight, rounded(like.weight, half))
    master = opt.state_dict()["items"][0]["master"]["weight"][0]
    assert np.allclose(master[[0, 1, 3]], [1 - 40e-4, 1 - 80e-4, 2 - 29e-4], atol=1e-6)
    assert np.isnan(master[2])


@pytest.mark.parametrize("half", HALVES)
def test_a_new_master_is_of_the_sign_of_a_zero(half):
    table = np.array([[-0.0, 0.0, 1.0]], DTYPE[half])
    layer = fe.Embedding.from_pretrained(table.copy())
    opt = fe.optim.SGD(layer, master_rows=True)
    layer.backward(np.zeros((1, 3), "f4"), [0], optimizer=opt)
    assert same_bits(layer.weight, table)
    assert same_bits(opt.state_dict()["items"][0]["master"]["weight"], table.astype("f4"))


@pytest.mark.parametrize("half", HALVES)
def test_a_place_without_a_row_lets_no_row_take_its_steps(half):
    """Padding in a bag is row -1, which must not advance the last row's random bits."""
    table, ids = table_of(np.random.default_rng(3), (4, 33), half, spread=1), [0, 1, 0, 2]
    ends = []
    for some in (ids, [i for i in ids if i != 0]):
        bag = fe.EmbeddingBag.from_pretrained(table.copy(), mode="max", padding_idx=0)
        opt = fe.optim.Adagrad(bag, weight_decay=0.1, stochastic_rounding=7)
        for k in range(6):
            bag.backward(np.ones((1, 33), "f4"), [3] if k == 0 else some, [0], optimizer=opt)
        ends.append(bag.weight.copy())
    assert same_bits(*ends)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("rounding", [{"master_rows": True}, {"stochastic_rounding": 3}], ids=str)
def test_resume_and_resize(half, rounding):
    rng = np.random.default_rng(5)
    table, steps = (
        table_of(rng, (9, 5), half),
        [(rng.integers(0, 9, 6), rng.standard_normal((6, 5)).astype("f4")) for _ in range(8)],
    )
    layer = fe.Embedding.from_pretrained(table.copy())
    opt = fe.optim.Adam(layer, lr=0.01, **rounding)
    for k, (ids, dout) in enumerate(steps):
        if k == 4:
            again = copy.deepcopy(layer)
            resumed = fe.optim.Adam(again, **rounding)
            resumed.load_state_dict(opt.state_dict())
        layer.backward(dout, ids, optimizer=opt)
    for ids, dout in steps[4:]:
        again.backward(dout, ids, optimizer=resumed)
    assert same_bits(again.weight, layer.weight)
    kept = layer.weight.copy()
    layer.resize(12, new_rows=1.5)
    assert layer.dtype == DTYPE[half]
    assert same_bits(layer.weight[:9], kept)
    layer.backward(np.ones((2, 5), "f4"), [11, 0], optimizer=opt)
    assert (layer.weight[11] < 1.5).any()


def test_invalid_options():
    layer = fe.Embedding(2, 2, dtype="bfloat16", rng=0)
    with pytest.raises(ValueError, match="exclude each other"):
        fe.optim.SGD(layer, master_rows=True, stochastic_rounding=1)
    with pytest.raises(TypeError, match="master_rows must be True or False"):
        fe.optim.SGD(layer, master_rows=1)
    with pytest.raises(TypeError, match="stochastic_rounding must be an integer"):
        fe.optim.SGD(layer, stochastic_rounding=0.5)
    with pytest.raises(TypeError, match="SGD has no option masters; it has lr, momentum"):
        fe.optim.SGD(layer, masters=True)
    with pytest.raises(TypeError, match="out must be bfloat16"):
        layer([0], out=np.empty((1, 2), "f4"))
    with pytest.raises(TypeError, match="wpe must have the dtype of wte"):
        fe.TokenPositionEmbedding.from_arrays(layer.weight, np.zeros((2, 2), "f4"))
