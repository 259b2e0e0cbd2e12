"""What NumPy is told of floating-point errors, and warnings as errors, change nothing here."""

import copy

import numpy as np
import pytest
from common import DTYPES, crc, floats, same_bits
from halves import DTYPE, HALVES
from optimizers import MAKE

import fastembed as fe

pytestmark = [pytest.mark.on_reference, pytest.mark.filterwarnings("error")]

HUGE = [1e300, -1e300, 1e-300, 1e38, 3e-39, 6e4, 1e-7, np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0]
IDS = np.array([[0, 3, 1], [3, 3, 5]])


def numbers(shape, dtype="f8", seed=0):
    """Numbers that overflow or underflow in smaller dtypes, infinities, NaN and plain ones."""
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        return np.where(rng.random(shape) < 0.5, rng.choice(HUGE, shape), floats(rng, shape, "float64")).astype(dtype)


def functions(dtype):
    """The functions on arrays, with results or what they wrote."""
    table, double, single = numbers((6, 5), dtype), numbers((6, 5), seed=1), numbers((6, 5), "f4")
    dout, values = numbers((2, 5), seed=2), numbers((2, 3, 5), seed=3)
    for array in (table, table.astype(table.dtype.newbyteorder("S")) if table.dtype.kind == "f" else table):
        yield fe.gather(array, IDS)
        yield fe.gather_add(array, IDS, double)
        for mode in ("sum", "mean", "sqrtn", "max"):
            weights = None if mode == "max" else numbers((2, 3), seed=4)
            yield fe.embedding_bag(array, IDS, mode=mode, per_sample_weights=weights)
            written = table.copy()
            yield fe.embedding_bag_backward(dout, IDS, written, mode=mode, per_sample_weights=weights, table=single)
            yield written
    dwte, dwpe, scattered = table.copy(), numbers((3, 5), dtype, 5), table.copy()
    fe.gather_add_backward(values, IDS, dwte, dwpe)
    fe.scatter_add(scattered, IDS, values)
    yield from (dwte, dwpe, scattered)
    yield np.array(fe.table_statistics(table)[4:7], float)


def gradients(dtype):
    """RowGrad and clipping."""
    rows = numbers((3, 5), dtype)
    for factor in (1e-300, 1e300, 3.0):
        grad = fe.RowGrad([0, 2, 5], rows, (6, 5))
        yield (grad + grad.scale(factor)).rows
        yield grad.scale_(factor).to_dense()
        grad.clip_value_(1e300)
        yield np.array([grad.norm(), grad.clip_(1e-300, error_if_nonfinite=False)])
        yield grad.rows
        parameter = fe.Parameter(np.ones((3, 5), dtype))
        parameter.grad = numbers((3, 5), seed=6)
        yield np.array(fe.optim.clip_grad_norm([parameter], factor, error_if_nonfinite=False))
        yield parameter.grad


def layers(dtype):
    """Calls, backward, states, search, growth and statistics of every layer."""
    table, other = numbers((6, 5), dtype), numbers((6, 5), dtype, 1)
    with np.errstate(all="ignore"):
        finite = np.where(np.isfinite(table.astype("f4")), table, 1).astype(dtype)
    options = {"max_norm": 1e-30, "scale_grad_by_freq": True}
    for layer in (
        fe.Embedding.from_pretrained(table.copy(), **options),
        fe.Embedding.from_pretrained(table.copy(), max_norm_in_place=False, norm_type=0.1, **options),
        fe.Embedding(6, 5, dtype=dtype, std=1e38, rng=0),
        fe.Embedding(6, 5, dtype=dtype, std=1e-300, rng=0),
        fe.EmbeddingBag.from_pretrained(table.copy(), mode="max", max_norm=1e-30),
        fe.EmbeddingBag.from_pretrained(table.copy(), mode="mean", max_norm_in_place=False, **options),
        fe.HashEmbedding.from_pretrained(table.copy(), dropout=0.5, hash=crc),
        fe.TokenPositionEmbedding.from_arrays(table.copy(), other.copy()),
        fe.TokenPositionEmbedding.from_arrays(table.copy(), other, finite.copy(), token_scale=3e38, norm="rms", dropout=0.5),
        fe.TokenPositionEmbedding.from_arrays(finite.copy(), other, norm="layer", token_scale=1e-38),
    ):
        result = layer(IDS)
        layer.backward(numbers(result.shape, seed=7))
        yield result
        yield from layer.dense_grads().values()
        if isinstance(layer, fe.TokenPositionEmbedding):
            yield layer.logits(numbers((2, 5), seed=8))
            yield layer.logits_backward(numbers((2, 6), seed=9))
            yield from layer.dense_grads().values()
        layer.load_state_dict({name: numbers((6, 5), seed=10) for name in layer.tables})
        yield from (array.copy() for array in layer.parameters())
        if isinstance(layer, fe.Embedding):
            layer.set_rows([1, 2], numbers((2, 5), seed=11))
        if not isinstance(layer, fe.HashEmbedding):
            layer.resize(8, new_rows=numbers((2, 5), seed=12))
            layer.vocabulary = map(str, range(8))
            layer.add_tokens(["a"])
            layer.add_tokens(["b"], numbers(5, seed=13))
        yield from (array.copy() for array in layer.parameters())
        yield np.array([found[4:7] for found in layer.statistics().values()], float)
        yield copy.deepcopy(layer).parameters()[0]
    searched = fe.Embedding.from_pretrained(np.concatenate([finite, table]))
    for metric in ("cosine", "dot", "l2"):
        yield from searched.nearest([0, 1, 2, 3, 4, 5], 3, metric)
        yield from searched.nearest([[1e-38, 0, 1e30, 1, 0]], 3, metric)
        yield from searched.analogy(0, 0, 1, 3, metric)
    for bits, limit in ((8, 1e37), (4, 3e4)):
        with np.errstate(all="ignore"):
            given = np.clip(finite, -limit, limit)
        packed = fe.QuantizedEmbedding.from_float(given, bits=bits).packed.copy()
        packed[0, -4:] = 255  # a trailer that another program may write
        layer = fe.QuantizedEmbedding.from_packed(packed, 5, bits=bits)
        yield from (packed, layer.dequantize(), layer.error_bound(), layer(IDS), layer.bag(IDS), layer.bag(IDS, mode="max"))
        yield layer.gather_add(IDS, numbers((6, 5), seed=14))
        yield from layer.nearest([1, 2], 3)


def training(dtype):
    """Steps, options and states of every optimiser."""
    rows = {"lr_multipliers": np.array([1e-300, 1, 1, 0, 1, 1])}
    for make in MAKE.values():
        half = {"master_rows": True} if dtype in HALVES else {}
        layer = fe.Embedding.from_pretrained(numbers((6, 5), dtype), trainable_rows=[0, 1, 3])
        parameter = fe.Parameter(numbers((2, 5), "f4" if dtype in HALVES else dtype))
        optimizer = make([layer, parameter], **rows, **half)
        optimizer.lr = 1e-30
        for seed in range(3):
            layer(IDS)
            layer.backward(numbers((2, 3, 5), seed=seed))
            parameter.grad = numbers((2, 5), seed=seed)
            fe.optim.clip_grad_norm([layer, parameter], 1e-300, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            layer.backward(numbers((2, 3, 5), seed=seed + 9), optimizer=optimizer)
        state = optimizer.state_dict()
        for item in state["items"]:
            yield from (array.copy() for kind in sorted(item.keys() - {"step"}) for array in item[kind].values())
        yield from (layer.weight.copy(), parameter.data.copy())
        for item in state["items"]:
            for kind in item.keys() - {"step"}:
                item[kind] = {of: numbers(array.shape, seed=20) for of, array in item[kind].items()}
        twin = make([copy.deepcopy(layer), copy.deepcopy(parameter)], **rows, **half)
        twin.load_state_dict(state)
        twin.step()
        yield from (twin.items[0].weight, twin.items[1].data)


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
@pytest.mark.parametrize("part", [functions, gradients, layers, training], ids=lambda part: part.__name__)
def test_no_floating_point_error_is_raised(part, dtype):
    if part is gradients and dtype in HALVES:
        pytest.skip("gradients are never of half precision")
    dtype = DTYPE.get(dtype, dtype)
    with np.errstate(all="ignore"):
        expected = list(part(dtype))
    with np.errstate(all="raise"):
        found = list(part(dtype))
    assert len(found) == len(expected) > 3
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or (np.array_equal(a, b) if a.dtype.kind not in "fV" and a.dtype.itemsize == 8 else same_bits(a, b))


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
@pytest.mark.parametrize("init", [1e-300, 1e300, None, lambda first, end: 1e-300])
def test_no_floating_point_error_is_raised_for_a_mapped_table(tmp_path, dtype, init):
    with np.errstate(all="raise"):
        with fe.Embedding.create(tmp_path / "t.safetensors", (6, 5), dtype, init, std=1e-300, rng=0, max_norm=1.0) as layer:
            layer.set_rows([0, 1], numbers((2, 5)))
            optimizer = fe.optim.Adam(layer, lr=1e-30)
            for seed in range(3):
                layer.backward(numbers(layer(IDS).shape, seed=seed), optimizer=optimizer)
            optimizer.load_state_dict(optimizer.state_dict())
            layer.resize(8, new_rows=numbers(5))
            layer.load_state_dict({"weight": numbers((8, 5))})
            expected = layer.weight.copy()
        with fe.Embedding.open(tmp_path / "t.safetensors") as layer:
            assert same_bits(layer.weight, expected)
