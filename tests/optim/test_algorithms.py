"""Every optimiser: the reference's bits over instruction sets and threads; PyTorch to rounding."""

import tracemalloc

import numpy as np
import pytest
from common import DTYPES, lists, needs_c, same_bits
from optimizers import gradients, zipf

import fastembed as fe
from fastembed import reference
from fastembed._kernels import backend

OPTIONS = {
    "SGD": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.02},
        {"momentum": 1.5},
        {"weight_decay": 0.1},
        {"momentum": 0.9, "dampening": 0.3, "maximize": True},
    ],
    "Adagrad": [{}, {"lr_decay": 0.1, "weight_decay": 0.01, "initial_accumulator_value": 0.1, "eps": 1e-6, "maximize": True}],
    "RowWiseAdagrad": [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "weight_decay_mode": "decoupled", "eps": 1e-4, "maximize": True},
    ],
    "Adam": [{}, {"weight_decay": 0.01}, {"betas": (0.0, 0.5), "eps": 1e-3}, {"betas": (0.95, 0.6)}],
    "AdamW": [{"weight_decay": 0.05}, {"betas": (0.5, 0.9), "maximize": True}],
    "SparseAdam": [{}, {"betas": (0.5, 0.9), "eps": 1e-4, "maximize": True}],
}

CASES = [(name, options) for name, several in OPTIONS.items() for options in several]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("width", [1, 16, 65])
def test_the_reference_to_the_bit(isa, dtype, name, options, width):
    rng = np.random.default_rng(width)
    wte, wpe = rng.standard_normal((7, width)).astype(dtype), rng.standard_normal((3, width)).astype(dtype)
    layer, like = (
        fe.TokenPositionEmbedding.from_arrays(wte, wpe),
        reference.TokenPositionEmbedding.from_arrays(*lists(wte, wpe), dtype=dtype),
    )
    opt, like_opt = getattr(fe.optim, name)(layer, **options), getattr(reference.optim, name)(like, **options, dtype=dtype)
    for step in range(12):
        opt.lr = like_opt.lr = 0.0 if step == 5 else 0.3 / (step + 1)
        ids = zipf(rng, 7, (2, 3))
        dout = gradients(rng, (2, 3, width), dtype)
        if step % 3 == 2:  # accumulated over two passes
            for half in (dout, dout):
                layer.backward(half, ids)
                like.backward(*lists(half, ids))
            opt.step(), like_opt.step()
            opt.zero_grad(), like_opt.zero_grad()
        else:
            layer.backward(dout, ids, optimizer=opt)
            like.backward(*lists(dout, ids), optimizer=like_opt)
    for k, (table, expected) in enumerate(((layer.wte, like.wte), (layer.wpe, like.wpe))):
        assert same_bits(table, np.array(expected, dtype)), ("wte", "wpe")[k]
    states, of_items = like_opt.state(0), opt.state_dict()["items"][0]
    for state in set(of_items) - {"step"}:
        for table in ("wte", "wpe"):
            got = of_items[state][table]
            assert same_bits(got, np.array(states[state][table], dtype).reshape(got.shape)), (state, table)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [0, 2100])
def test_rows_without_columns_and_rows_of_several_strips(dtype, width):
    """A row-wise rule needs the sum of squares over all strips before it updates the first."""
    rng = np.random.default_rng(0)
    table, dout = rng.standard_normal((3, width)).astype(dtype), gradients(rng, (4, width), dtype)
    layer = fe.Embedding.from_pretrained(table.copy(), freeze=False)
    like = reference.Embedding.from_pretrained(table.tolist(), dtype=dtype)
    opt, like_opt = fe.optim.RowWiseAdagrad(layer, lr=0.1), reference.optim.RowWiseAdagrad(like, lr=0.1, dtype=dtype)
    for _ in range(2):
        layer.backward(dout, [0, 2, 0, 0], optimizer=opt)
        like.backward(dout.tolist(), [0, 2, 0, 0], optimizer=like_opt)
    assert same_bits(layer.weight, np.array(like.weight, dtype).reshape(3, width))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RowWiseAdagrad", "Adam", "AdamW", "SparseAdam"])
def test_without_decay_an_infinite_weight_stays_as_it_is(dtype, name):
    """No decay is no product with zero, which would be NaN."""
    layer = fe.Embedding.from_pretrained(np.array([[np.inf, -np.inf, 1.0]] * 2, dtype), freeze=False)
    opt = getattr(fe.optim, name)(layer, lr=0.1, **({} if name == "SparseAdam" else {"weight_decay": 0.0}))
    for _ in range(3):
        layer.backward(np.ones((1, 3), dtype), [0], optimizer=opt)
    assert layer.weight[0, :2].tolist() == [np.inf, -np.inf]
    assert layer.weight[0, 2] < 1


@needs_c
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(OPTIONS))
def test_bits_do_not_depend_on_threads(isa, dtype, name):
    """Tables of which each step is shared out between threads."""
    rng = np.random.default_rng(0)
    batches = [(zipf(rng, 900, (20, 50)), gradients(rng, (20, 50, 193), dtype)) for _ in range(6)]

    def trained(n_threads):
        layer = fe.TokenPositionEmbedding(900, 50, 193, dtype=dtype, rng=1)
        opt = getattr(fe.optim, name)(layer, **OPTIONS[name][-1])
        with fe.threads(n_threads):
            for ids, dout in batches:
                layer.backward(dout, ids, optimizer=opt)
            opt.flush()
        return layer.wte, layer.wpe

    expected = trained(1)
    for n_threads in (2, 3, 8):
        assert all(map(same_bits, trained(n_threads), expected))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {}),
        ("Adam", {"weight_decay": 0.02, "betas": (0.8, 0.99)}),
        ("AdamW", {"weight_decay": 0.05}),
        ("AdamW", {"weight_decay": 0.05, "maximize": True}),
        ("SGD", {}),
        ("SGD", {"momentum": 0.9, "dampening": 0.4, "weight_decay": 0.01, "maximize": True}),
        ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        ("Adagrad", {"lr_decay": 0.01, "weight_decay": 0.01}),
        ("SparseAdam", {}),
    ],
)
def test_pytorch_to_rounding(name, options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    layer = fe.Embedding(40, 9, dtype="float64", rng=0)
    weight = torch.tensor(layer.weight.copy(), requires_grad=True)
    opt, theirs = getattr(fe.optim, name)(layer, lr=0.1, **options), getattr(torch.optim, name)([weight], lr=0.1, **options)
    for t in range(500):
        opt.lr = theirs.param_groups[0]["lr"] = 0.1 * rng.random()
        ids, dout = zipf(rng, 40, 6), rng.standard_normal((6, 9))
        layer.backward(dout, ids, optimizer=opt)
        looked_up = torch.nn.functional.embedding(torch.tensor(ids), weight, sparse=name == "SparseAdam")
        weight.grad = None
        looked_up.backward(torch.tensor(dout))
        theirs.step()
        if t % 100 == 99:
            assert np.allclose(layer.weight, weight.detach().numpy(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("mode", ["l2", "decoupled"])
def test_row_wise_adagrad_is_the_published_formula(mode):
    rng = np.random.default_rng(0)
    layer = fe.Embedding(9, 21, dtype="float64", rng=0)
    opt = fe.optim.RowWiseAdagrad(layer, lr=0.1, eps=1e-3, weight_decay=0.2, weight_decay_mode=mode)
    w, h = layer.weight.copy(), np.zeros(9)
    for _ in range(20):
        ids, dout = rng.integers(0, 9, 4), rng.standard_normal((4, 21))
        layer.backward(dout, ids, optimizer=opt)
        for row in np.unique(ids):
            g = dout[ids == row].sum(axis=0) + (0.2 * w[row] if mode == "l2" else 0)
            h[row] += (g * g).mean()
            w[row] = (1 if mode == "l2" else 1 - 0.1 * 0.2) * w[row] - 0.1 / (np.sqrt(h[row]) + 1e-3) * g
    assert np.allclose(layer.weight, w, rtol=1e-12)


@pytest.mark.on_reference
def test_an_invalid_mode_of_decay():
    layer = fe.Embedding(4, 2, rng=0)
    with pytest.raises(ValueError, match="weight_decay_mode must be l2 or decoupled, got 'L2'"):
        fe.optim.RowWiseAdagrad(layer, weight_decay_mode="L2")


def test_rows_without_columns_have_nothing_to_learn():
    layer = fe.Embedding(3, 0, rng=0)
    opt = fe.optim.RowWiseAdagrad(layer)
    layer.backward(np.empty((2, 0), "f4"), [0, 2], optimizer=opt)
    assert opt.state_dict()["items"][0]["sum"]["weight"].tolist() == [0.0] * 3


@pytest.mark.skipif(backend.name != "c", reason="the reference makes lists")
@pytest.mark.parametrize(
    "layer", [fe.Embedding(200_000, 32, rng=0), fe.TokenPositionEmbedding(200_000, 1000, 32, rng=0)], ids=str
)
def test_a_fused_step_takes_40_bytes_an_id(layer):
    ids = zipf(np.random.default_rng(0), 200_000, (20, 1000))
    dout = np.ones((20, 1000, 32), np.float32)
    opt = fe.optim.Adam(layer)
    layer.backward(dout, ids, optimizer=opt)  # its state is made
    tracemalloc.start()
    for _ in range(3):
        layer.backward(dout, ids, optimizer=opt)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 40 * ids.size + 20_000


@pytest.mark.parametrize("dtype", DTYPES)
def test_updates_take_the_nearest_square_root(dtype):
    """Of sums of all sizes; AVX-512 computes some by other means than its instruction."""
    total = np.exp2(np.random.default_rng(0).uniform(-149, 127, (4096, 64))).astype(dtype)
    total[::2] = np.exp2(np.random.default_rng(1).uniform(-2, 2, (2048, 64)))
    total[0, :4] = 0, 2.0**-100, 2.0**100, np.inf
    layer, grad = fe.Embedding.from_pretrained(np.zeros_like(total)), np.full_like(total, 2.0**-60)
    opt = fe.optim.Adagrad(layer, lr=1.0, eps=1e-30)
    opt.load_torch_state_dict({"state": {0: {"sum": total.copy(), "step": 1}}, "param_groups": [{"params": [0]}]})
    layer.backward(grad, np.arange(len(grad)), optimizer=opt)
    assert same_bits(layer.weight, 0 - grad / (np.sqrt(total + grad * grad) + total.dtype.type(1e-30)))
