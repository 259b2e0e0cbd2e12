"""Losses: the reference to the bit, formulas and other libraries to rounding, refusals."""

import numpy as np
import pytest
from common import DTYPES, ID_DTYPES, READ_LAYOUTS, examples, floats, needs_c, relaid, same_bits
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference


# ---- cross-entropies of logits ----


def awkward_logits(rng, shape, dtype):
    """Logits of usual sizes, with numbers of all sizes among them."""
    return np.where(rng.random(shape) < 0.2, floats(rng, shape, dtype), rng.normal(0, 5, shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@examples(40)
@given(seed=st.integers(0, 2**32 - 1), layout=st.sampled_from(READ_LAYOUTS))
def test_binary_cross_entropy_is_the_reference(dtype, seed, layout):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(0, 5, rng.integers(1, 4)))
    logits, targets = awkward_logits(rng, shape, dtype), rng.choice([0, 1, 0.3, rng.random()], shape).astype(dtype)
    loss, gradient = fe.losses.binary_cross_entropy(relaid(logits, layout), relaid(targets, layout))
    expected, of_logits = reference.losses.binary_cross_entropy(logits.tolist(), targets.tolist(), dtype)
    assert same_bits(loss, expected)
    assert same_bits(gradient, np.array(of_logits, dtype).reshape(shape))


@pytest.mark.parametrize("dtype", DTYPES)
@examples(40)
@given(seed=st.integers(0, 2**32 - 1), layout=st.sampled_from(READ_LAYOUTS))
def test_cross_entropy_is_the_reference(dtype, seed, layout):
    rng = np.random.default_rng(seed)
    n_rows, n_classes = rng.integers(0, 6), rng.integers(1, 40)
    logits = awkward_logits(rng, (n_rows, n_classes), dtype)
    targets = np.where(rng.random(n_rows) < 0.3, -100, rng.integers(0, n_classes, n_rows))
    loss, gradient = fe.losses.cross_entropy(relaid(logits, layout), relaid(targets, layout))
    expected, of_logits = reference.losses.cross_entropy(logits.tolist(), targets.tolist(), dtype=dtype)
    assert same_bits(loss, expected)
    assert same_bits(gradient, np.array(of_logits, dtype).reshape(logits.shape))


@pytest.mark.parametrize("ids", ID_DTYPES)
def test_rows_that_do_not_count_have_targets_of_any_type(ids):
    logits = np.array([[1.0, 2.0], [3.0, 5.0]])
    loss, gradient = fe.losses.cross_entropy(logits, np.array([0, 1], ids), ignore_index=0)
    expected, of_logits = reference.losses.cross_entropy(logits.tolist(), [0, 1], 0)
    assert (loss, gradient.tolist()) == (expected, of_logits)


@needs_c
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_depend_on_neither_threads_nor_instruction_sets(dtype, select_isa):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 5, (301, 777)).astype(dtype), rng.integers(0, 777, 301)
    results = []
    for isa in fe.show_config()["isa_available"]:
        select_isa(isa)
        for n in (1, 3):
            with fe.threads(n):
                pair = fe.losses.cross_entropy(logits, targets), fe.losses.binary_cross_entropy(logits, logits > 0)
                results.append([part for of_loss in pair for part in of_loss])
    assert len(results) >= 4
    for result in results[1:]:
        assert all(same_bits(a, b) for a, b in zip(result, results[0], strict=True))


def test_exponentials_and_logarithms_are_those_of_a_library_to_rounding():
    rng = np.random.default_rng(0)
    x = -np.abs(rng.normal(size=500)) * 10.0 ** rng.uniform(-3, 2.8, 500)
    np.testing.assert_allclose([reference.losses.exp(v) for v in x.tolist()], np.exp(x), rtol=4e-16, atol=5e-324)
    t = rng.random(500)
    np.testing.assert_allclose([reference.losses.log1p(v) for v in t.tolist()], np.log1p(t), rtol=6e-16)
    y = 10 ** rng.uniform(0, 300, 500)
    np.testing.assert_allclose([reference.losses.log(v) for v in y.tolist()], np.log(y), rtol=6e-16)


def test_ends_of_the_range():
    loss, gradient = fe.losses.binary_cross_entropy([800.0, -800.0, 40.0, -40.0], [1, 0, 1, 0])
    assert 0 < loss < 1e-17
    assert gradient.tolist()[:2] == [0.0, 0.0]
    assert -1e-17 < gradient[2] < 0 < gradient[3] < 1e-17
    assert fe.losses.binary_cross_entropy([800.0], [0])[0] == 800
    loss, gradient = fe.losses.cross_entropy([[1e4, 0.0], [0.0, -1e4]], [1, 0])
    assert loss == 5e3
    assert gradient.tolist() == [[0.5, -0.5], [0.0, 0.0]]
    assert fe.losses.cross_entropy(np.zeros((2, 3)), [-1, -1], ignore_index=-1)[0] == 0
    assert fe.losses.cross_entropy(np.zeros((0, 3)), [])[0] == fe.losses.binary_cross_entropy([], [])[0] == 0
    assert fe.losses.binary_cross_entropy(0.0, 1)[1].tolist() == -0.5
    assert fe.losses.cross_entropy([0.0, 0.0], 1)[1].tolist() == [0.5, -0.5]
    assert fe.losses.cross_entropy(np.zeros((2, 2, 4), np.float32), [[0, 1], [2, 3]])[1].shape == (2, 2, 4)


def test_pytorch_has_the_same_losses():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, targets, probabilities = rng.normal(0, 4, (50, 30)), rng.integers(0, 30, 50), rng.random((50, 30))
    targets[::7] = -100
    x = torch.tensor(logits, requires_grad=True)
    for theirs, ours in (
        (torch.nn.functional.cross_entropy(x, torch.tensor(targets)), fe.losses.cross_entropy(logits, targets)),
        (
            torch.nn.functional.binary_cross_entropy_with_logits(x, torch.tensor(probabilities)),
            fe.losses.binary_cross_entropy(logits, probabilities),
        ),
    ):
        x.grad = None
        theirs.backward()
        np.testing.assert_allclose(ours[0], theirs.item(), rtol=1e-14)
        np.testing.assert_allclose(ours[1], x.grad.numpy(), rtol=1e-12, atol=1e-18)


# ---- skip-gram ----

V_IN, V_OUT, D = 7, 9, 5


def layers(rng, dtype, **options):
    tables = [rng.normal(0, 1, (n, D)).astype(dtype) for n in (V_IN, V_OUT)]
    of_reference = [reference.Embedding.from_pretrained(table.tolist(), dtype=dtype, **options) for table in tables]
    return [fe.Embedding.from_pretrained(table, **options) for table in tables], of_reference


def draw_pairs(rng, n_pairs, outside=0):
    centres, contexts = rng.integers(-outside, V_IN + outside, n_pairs), rng.integers(-outside, V_OUT + outside, n_pairs)
    return centres, contexts, rng.integers(-outside, V_OUT + outside, (n_pairs, rng.integers(0, 6)))


@pytest.mark.parametrize("dtype", DTYPES)
@examples(30)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["none", "SGD", "Adam", "Adagrad"]))
def test_skip_gram_is_the_reference(dtype, seed, kind):
    rng = np.random.default_rng(seed)
    bounds = str(rng.choice(["raise", "wrap", "zero"]))
    options = {"padding_idx": rng.choice([None, 2]), "scale_grad_by_freq": bool(rng.random() < 0.5), "bounds": bounds}
    ours, theirs = layers(rng, dtype, **options)
    optimizer = expected = None
    if kind != "none":
        optimizer, expected = (
            getattr(module, kind)(made, lr=0.1) for module, made in ((fe.optim, ours), (reference.optim, theirs))
        )
    for _ in range(2):
        pairs = draw_pairs(rng, rng.integers(1, 6), 2 * (bounds != "raise"))
        loss = fe.losses.skip_gram(*ours, *pairs, optimizer=optimizer)
        assert same_bits(loss, reference.losses.skip_gram(*theirs, *(ids.tolist() for ids in pairs), optimizer=expected))
    if expected is not None:
        expected.flush()
    for layer, other in zip(ours, theirs, strict=True):
        assert same_bits(layer.weight, np.array(other.weight, dtype))
        assert layer.grads()["weight"].ids.tolist() == other.grads()["weight"].ids
        assert same_bits(layer.grads()["weight"].rows, np.array(other.grads()["weight"].rows, dtype).reshape(-1, D))


def test_a_step_of_one_pair_is_that_of_word2vec():
    rng = np.random.default_rng(0)
    (inputs, outputs), _ = layers(rng, "float64")
    x, rows, alpha = inputs.weight[3].copy(), outputs.weight.copy(), 0.025
    targets, labels, neu1e = [4, 1, 8, 1], [1, 0, 0, 0], np.zeros(D)
    expected = rows.copy()
    for target, label in zip(targets, labels, strict=True):
        g = (label - 1 / (1 + np.exp(-x @ rows[target]))) * alpha
        neu1e += g * rows[target]
        expected[target] += g * x
    fe.losses.skip_gram(inputs, outputs, [3], [4], [[1, 8, 4, 1]], optimizer=fe.optim.SGD([inputs, outputs], lr=alpha))
    np.testing.assert_allclose(inputs.weight[3], x + neu1e, rtol=1e-14)
    np.testing.assert_allclose(outputs.weight, expected, rtol=1e-14)


def test_the_gradient_is_that_of_the_loss():
    rng = np.random.default_rng(1)
    (inputs, outputs), _ = layers(rng, "float64")
    pairs = draw_pairs(rng, 6)
    fe.losses.skip_gram(inputs, outputs, *pairs)
    for layer, gradient in [(layer, layer.dense_grads()["weight"]) for layer in (inputs, outputs)]:
        table = layer.weight
        for place in np.ndindex(table.shape):
            before, losses = table[place], []
            for step in (1e-6, -1e-6):
                table[place] = before + step
                losses.append(fe.losses.skip_gram(inputs, outputs, *pairs))
            table[place] = before
            assert abs((losses[0] - losses[1]) / 2e-6 - gradient[place]) < 1e-9


@needs_c
def test_skip_gram_on_any_number_of_threads_and_in_half_precision(select_isa):
    rng = np.random.default_rng(0)
    tables = [rng.normal(0, 0.2, (1000, 65)) for _ in range(2)]
    pairs = rng.integers(0, 1000, 3000), rng.integers(0, 1000, 3000), rng.integers(0, 1000, (3000, 5))
    for dtype in ("float32", "float16"):
        results = []
        for isa in fe.show_config()["isa_available"]:
            select_isa(isa)
            for n in (1, 3):
                made = [fe.Embedding.from_pretrained(table.astype(dtype)) for table in tables]
                with fe.threads(n):
                    loss = fe.losses.skip_gram(*made, *pairs, optimizer=fe.optim.Adam(made, lr=0.01))
                results.append([np.float64(loss), *(layer.weight for layer in made)])
        assert all(same_bits(a, b) for result in results for a, b in zip(result, results[0], strict=True))


@pytest.mark.parametrize("negatives", [[], np.zeros((0, 3), np.int64)], ids=str)
def test_skip_gram_of_no_pairs_is_the_step_of_an_empty_backward(negatives):
    results = []
    for is_backward in (False, True):
        made, ones = [fe.Embedding(4, 2, rng=seed) for seed in (0, 1)], np.ones((1, 2), np.float32)
        optimizer = fe.optim.Adam(made)
        for layer in made:
            layer.backward(ones, [1], optimizer=optimizer)
            if is_backward:
                layer.backward(ones[:0], [], optimizer=optimizer)
        if not is_backward:
            assert fe.losses.skip_gram(*made, [], [], negatives) == 0.0
            assert not any(layer.has_grad for layer in made)
            assert fe.losses.skip_gram(*made, [], [], negatives, optimizer=optimizer) == 0.0
        results.append([*(layer.weight for layer in made), np.array(optimizer.step_counts)])
    assert results[0][2].tolist() == [2, 2]
    assert all(same_bits(ours, others) for ours, others in zip(*results, strict=True))
    theirs = [reference.Embedding(4, 2) for _ in range(2)]
    assert reference.losses.skip_gram(*theirs, [], [], []) == 0.0


def test_refusals_change_nothing():
    rng = np.random.default_rng(0)
    (inputs, outputs), _ = layers(rng, "float64")
    before = [layer.weight.copy() for layer in (inputs, outputs)]
    optimizer = fe.optim.SGD([inputs], lr=0.1)
    wide = fe.Embedding(V_OUT, D + 1, dtype="float64")
    refused = [
        (IndexError, "centre id 7 at position .1,. is out of range for a table of 7 rows", ([1, 7], [0, 0], [[1], [1]])),
        (IndexError, "negative id -1 at position .0, 1.", ([1], [0], [[1, -1]])),
        (ValueError, r"negatives .B, K., got centres .2,., contexts .1,., negatives .1, 1.", ([1, 1], [0], [[1]])),
        (TypeError, "context ids must be integers", ([1], [0.5], [[1]])),
        (ValueError, r"got centres .0,., contexts .0,., negatives .1, 0.", ([], [], [[]])),
    ]
    for kind, text, pairs in refused:
        with pytest.raises(kind, match=text):
            fe.losses.skip_gram(inputs, outputs, *pairs)
    with pytest.raises(ValueError, match="optimizer does not hold this layer"):
        fe.losses.skip_gram(inputs, outputs, [1], [0], [[1]], optimizer=optimizer)
    for pair, kind, text in (
        ((inputs, inputs), ValueError, "must be two layers"),
        ((inputs, wide), ValueError, "got 5 columns of float64 and 6 columns of float64"),
        ((inputs, fe.EmbeddingBag(4, D)), TypeError, "outputs must be a fastembed.Embedding, got EmbeddingBag"),
        ((fe.Embedding(4, D, max_norm=1.0), outputs), ValueError, "without max_norm, got max_norm=1.0"),
    ):
        with pytest.raises(kind, match=text):
            fe.losses.skip_gram(*pair, [1], [0], [[1]])
    assert not inputs.has_grad
    assert not outputs.has_grad
    assert all(same_bits(layer.weight, old) for layer, old in zip((inputs, outputs), before, strict=True))
    fe.losses.skip_gram(inputs, outputs, [1], [0], [[1]])
    with pytest.raises(RuntimeError, match="an accumulated gradient is pending"):
        fe.losses.skip_gram(inputs, outputs, [1], [0], [[1]], optimizer=fe.optim.SGD([inputs, outputs], lr=0.1))


def test_refusals_of_logits():
    for kind, text, call, arguments in (
        (ValueError, "targets must be from 0 to 1, got 1.5 at position .1,.", "binary_cross_entropy", ([0.0, 0.0], [1, 1.5])),
        (ValueError, r"targets must have the shape of the logits, \(2,\), got \(1,\)", "binary_cross_entropy", ([0.0, 0.0], [1])),
        (TypeError, "targets must be numbers", "binary_cross_entropy", ([0.0], ["a"])),
        (TypeError, "logits must be float32 or float64, got float16", "binary_cross_entropy", (np.zeros(1, np.float16), [1])),
        (IndexError, "target 3 at position .1,. is out of range for 3 classes", "cross_entropy", (np.zeros((2, 3)), [2, 3])),
        (IndexError, "target -1 at position .0,.", "cross_entropy", (np.zeros((1, 3)), [-1])),
        (ValueError, "logits must have an axis of classes", "cross_entropy", (np.float64(1.0), 0)),
        (ValueError, r"targets must have shape \(2,\)", "cross_entropy", (np.zeros((2, 3)), [2])),
        (TypeError, "targets must be integers", "cross_entropy", (np.zeros((1, 3)), [1.0])),
    ):
        with pytest.raises(kind, match=text):
            getattr(fe.losses, call)(*arguments)
