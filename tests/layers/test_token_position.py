"""TokenPositionEmbedding and its options: the reference to the bit, PyTorch's norms, padding."""

import pickle

import numpy as np
import pytest
from common import OnlyDlpack, examples, same_bits
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import checkpoint, reference

pytestmark = pytest.mark.on_reference

ALL_DTYPES = ("float32", "float64", "float16")

OPTIONS = st.fixed_dictionaries(
    {
        "token_scale": st.sampled_from([1.0, 4.0, 0.3]),
        "norm": st.sampled_from([None, "rms", "layer"]),
        "norm_eps": st.sampled_from([1e-5, 1e-2]),
        "dropout": st.sampled_from([0.0, 0.4]),
        "dropout_seed": st.sampled_from([0, 7]),
    }
)


def layers(rng, dtype, n_types, **options):
    tables = [rng.standard_normal((n, 19)).astype(dtype) for n in (9, 6, n_types) if n]
    like = reference.TokenPositionEmbedding.from_arrays(*(table.tolist() for table in tables), dtype=dtype, **options)
    return fe.TokenPositionEmbedding.from_arrays(*tables, **options), like


def draw_call(rng, shape, has_types):
    """Ids and how they are to be read; padded places hold what is no id."""
    ids = np.asarray(rng.integers(0, 9, shape))
    call = {}
    if rng.random() < 0.5:
        call["position_ids"] = np.asarray(rng.integers(0, 6, shape))
    elif shape:
        call["start"] = int(rng.integers(0, 7 - shape[-1]))
    if has_types and rng.random() < 0.7:
        call["type_ids"] = np.asarray(rng.integers(0, 2, shape))
    padding = rng.integers(0, 3) if shape else 0
    if padding:
        kept = rng.random(shape) < 0.6
        if padding == 1:
            call["lengths"] = np.asarray(rng.integers(0, shape[-1] + 1, shape[:-1]))
            kept = np.arange(shape[-1]) < call["lengths"][..., None]
        else:
            call["mask"] = kept
        for given in (ids, *(call[name] for name in ("position_ids", "type_ids") if name in call)):
            given[~kept] = rng.choice([-1, 99])
    return ids, call


def nested(call):
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in call.items()}


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@examples(60)
@given(
    options=OPTIONS, seed=st.integers(0, 2**32 - 1), n_types=st.sampled_from([0, 2]),
    shape=st.sampled_from([(), (3,), (2, 4), (2, 1, 3)]), name=st.sampled_from([None, "SGD", "Adam"]),
)  # fmt: skip
def test_every_combination_is_the_reference(dtype, options, seed, n_types, shape, name):
    rng = np.random.default_rng(seed)
    layer, like = layers(rng, dtype, n_types, **options)
    pairs = ((fe.optim, layer), (reference.optim, like))
    opt, like_opt = (None, None) if name is None else (getattr(optim, name)(of, lr=0.1) for optim, of in pairs)
    for _ in range(3):
        ids, call = draw_call(rng, shape, n_types)
        got, expected = layer(ids, **call), like(ids.tolist(), **nested(call))
        assert same_bits(got, np.array(expected, dtype).reshape(*shape, 19))
        out = np.empty((*shape, 19), dtype)
        if options["dropout"] == 0:
            assert layer(ids, **call, out=out) is out
            assert same_bits(out, got)
        dout = rng.standard_normal((*shape, 19)).astype("f4")
        layer.backward(dout, optimizer=opt)
        like.backward(dout.tolist(), optimizer=like_opt)
        for table, grad in layer.grads().items():
            assert grad.ids.tolist() == like.grads()[table].ids
            assert same_bits(grad.rows, np.array(like.grads()[table].rows, grad.rows.dtype).reshape(-1, 19))
    expected = like.state_dict()
    for key, array in layer.state_dict().items():
        assert same_bits(array, np.array(expected.pop(key), array.dtype))
    assert not expected


@pytest.mark.parametrize("norm", [None, "rms", "layer"])
def test_gradients_match_finite_differences(norm):
    rng = np.random.default_rng(0)
    layer, _ = layers(rng, "float64", 2, norm=norm, token_scale=1.7)
    ids, call = rng.integers(0, 9, (2, 4)), {"type_ids": rng.integers(0, 2, (2, 4)), "lengths": [4, 2]}
    c, h = rng.standard_normal((2, 4, 19)), 1e-6
    layer(ids, **call)
    layer.backward(c)
    for name, table in layer.state_dict().items():
        dense = layer.dense_grads()[name]
        for index in [(int(rng.integers(len(table))), int(rng.integers(19))) for _ in range(25)]:
            value = table[index]
            table[index] = value + h
            above = (c * layer(ids, **call)).sum()
            table[index] = value - h
            below = (c * layer(ids, **call)).sum()
            table[index] = value
            assert abs((above - below) / (2 * h) - dense[index]) < 1e-6


def test_pytorch_agrees():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    for norm in ("rms", "layer"):
        layer, _ = layers(rng, "float64", 0, norm=norm)
        ids, dout = rng.integers(0, 9, (2, 4)), rng.standard_normal((2, 4, 19))
        wte, wpe = (torch.tensor(table, requires_grad=True) for table in layer.parameters())
        x = torch.nn.functional.embedding(torch.from_numpy(ids), wte) + wpe[:4]
        functional = torch.nn.functional
        expected = functional.layer_norm(x, (19,)) if norm == "layer" else functional.rms_norm(x, (19,), eps=1e-5)
        assert np.allclose(layer(ids), expected.detach().numpy(), rtol=1e-12, atol=1e-14)
        expected.backward(torch.from_numpy(dout))
        layer.backward(dout)
        assert np.allclose(layer.dense_grads()["wte"], wte.grad.numpy(), rtol=1e-10, atol=1e-13)
        assert np.allclose(layer.dense_grads()["wpe"], wpe.grad.numpy(), rtol=1e-10, atol=1e-13)


def test_dropout_is_seeded_and_only_in_train_mode():
    first, second = (fe.TokenPositionEmbedding(20, 50, 64, dropout=0.25, dropout_seed=3, rng=0) for _ in range(2))
    ids = np.arange(20).repeat(2)
    a, b = first(ids), second(ids)
    assert same_bits(a, b)
    assert not same_bits(first(ids), a)
    assert 0.2 < (a == 0).mean() < 0.3
    plain = first.eval()(ids)
    assert (plain != 0).all()
    kept = a != 0
    assert np.allclose(a[kept], plain[kept] / 0.75, rtol=1e-6)
    for n_threads in (1, 3):
        with fe.threads(n_threads):
            big = fe.TokenPositionEmbedding(20, 50, 300, dropout=0.25, norm="layer", dtype="float64", rng=0)
            results = big(np.arange(20).repeat(2)[None].repeat(40, 0))
            assert same_bits(
                results[:1], fe.TokenPositionEmbedding.from_arrays(*big.parameters(), dropout=0.25, norm="layer")(ids[None])
            )


def test_a_resumed_run_drops_what_the_first_would_have_dropped(tmp_path):
    def new(rng):
        return fe.TokenPositionEmbedding(9, 4, 30, dropout=0.5, dropout_seed=3, rng=rng)

    layer, ids = new(0), [[1, 2, 3], [4, 5, 6]]
    assert layer.state_dict()["dropout_calls"] == 0
    for _ in range(3):
        layer(ids)
    layer.eval()(ids)
    checkpoint.save(tmp_path / "x", layer.state_dict())
    state, _ = checkpoint.load(tmp_path / "x")
    assert state["dropout_calls"].dtype == np.int64
    assert state["dropout_calls"] == 3
    expected = layer.train()(ids)
    for strict in (True, False):
        resumed = new(1)
        resumed.load_state_dict(state, strict=strict)
        assert same_bits(resumed(ids), expected)
    assert same_bits(layer.parameters()[-1], layer.wpe)
    without = {name: table for name, table in state.items() if name != "dropout_calls"}  # saved by an earlier version
    resumed.load_state_dict(without)
    assert resumed.state_dict()["dropout_calls"] == 4
    plain = fe.TokenPositionEmbedding(9, 4, 30)
    plain.load_state_dict(state)
    assert plain.state_dict().keys() == {"wte", "wpe"}
    for bad, error in ((-1, ValueError), (2**63, ValueError), (1.5, TypeError), (True, TypeError), ([3], TypeError)):
        with pytest.raises(error, match="dropout_calls"):
            resumed.load_state_dict(new(2).state_dict() | {"dropout_calls": bad})
    assert resumed.state_dict()["dropout_calls"] == 4
    assert same_bits(resumed.wte, state["wte"])


@pytest.mark.parametrize("options", [{}, {"norm": "rms"}, {"n_types": 2}], ids=repr)
def test_an_output_that_is_an_input(options):
    """Whatever way a call takes: with or without options of the layer, with or without padding."""
    for dtype in ("float64", "float32"):
        layer = fe.TokenPositionEmbedding(9, 4, 2, dtype=dtype, rng=0, **options)
        memory = np.zeros(64)
        out, ids = memory[:12].view(dtype)[:12].reshape(2, 3, 2), memory.view(np.int64)[2:8].reshape(2, 3)
        for call in (
            {"token_ids": ids},
            {"token_ids": [[1] * 3] * 2, "position_ids": ids},
            {"token_ids": [[1] * 3] * 2, "position_ids": ids[0]},
            {"token_ids": [[1] * 3] * 2, "lengths": ids[0, :2]},
            {"token_ids": [[1] * 3] * 2, "mask": memory.view(bool)[8:14].reshape(2, 3)},
            {"token_ids": [[1] * 3] * 2, "type_ids": ids},
        ):
            name = list(call)[-1]
            if name == "type_ids" and "n_types" not in options:
                continue
            with pytest.raises(ValueError, match=f"out must not overlap {name}"):
                layer(**call, out=out)
        with pytest.raises(ValueError, match="out must not overlap wte"):
            layer([[1, 2]], out=layer.wte[None, :2])
        assert not memory.any()


def test_options_are_read_only_and_eval_keeps_nothing():
    layer = fe.TokenPositionEmbedding(9, 4, 3, norm="rms", rng=0)
    for name in ("token_scale", "norm", "norm_eps", "dropout", "dropout_seed"):
        with pytest.raises(AttributeError):
            setattr(layer, name, getattr(layer, name))
    layer.logits(np.ones((2, 3), "f4"))
    again = pickle.loads(pickle.dumps(layer))
    for kept_nothing in (again, layer.eval()):
        with pytest.raises(RuntimeError, match="logits_backward needs h"):
            kept_nothing.logits_backward(np.ones((2, 9), "f4"))
    assert again.norm == "rms"
    assert len(pickle.dumps(layer.train())) == len(pickle.dumps(again))


def test_the_tied_head():
    rng = np.random.default_rng(2)
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-13), ("float16", 1e-5)):
        layer, like = layers(rng, dtype, 0)
        h, dlogits = rng.standard_normal((4, 19)).astype("f4"), rng.standard_normal((4, 9)).astype("f4")
        assert np.allclose(layer.logits(h), like.logits(h.tolist()), rtol=tolerance, atol=10 * tolerance)
        layer.backward(np.ones((3, 19), "f4"), [1, 2, 1])
        like.backward([[1.0] * 19] * 3, [1, 2, 1])
        dh, expected = layer.logits_backward(dlogits), like.logits_backward(dlogits.tolist())
        assert np.allclose(dh, expected, rtol=tolerance, atol=10 * tolerance)
        assert same_bits(layer.logits(OnlyDlpack(h)), layer.logits(h))
        assert layer.grads()["wte"].ids.tolist() == list(range(9))
        assert np.allclose(layer.grads()["wte"].rows, like.grads()["wte"].rows, rtol=tolerance, atol=10 * tolerance)
        fe.optim.SGD(layer, lr=0.1).step()
    with pytest.raises(RuntimeError, match="logits_backward needs h"):
        fe.TokenPositionEmbedding(3, 2, 4).logits_backward(np.ones((1, 3)))
    with pytest.raises(ValueError, match="h must have shape"):
        layer.logits(np.ones((2, 18)))
    with pytest.raises(ValueError, match="dlogits must have shape"):
        layer.logits_backward(np.ones((4, 8), "f4"))


def test_what_is_refused():
    layer = fe.TokenPositionEmbedding(9, 4, 3, rng=0)

    def backward(ids, **call):
        layer.backward(np.ones((*np.shape(ids), 3), "f4"), ids, **call)

    for error, text, ids, call in (
        (ValueError, "lengths and mask exclude each other", [[1, 2]], {"lengths": [1], "mask": [[True, False]]}),
        (ValueError, r"lengths must have shape \(1,\), got \(2,\)", [[1, 2]], {"lengths": [1, 2]}),
        (ValueError, "lengths must be from 0 to 2, got 3", [[1, 2]], {"lengths": [3]}),
        (ValueError, "lengths must be from 0 to 2, got -1", [[1, 2]], {"lengths": [-1]}),
        (ValueError, rf"lengths must be from 0 to 2, got {2**70} at position \(0,\)", [[1, 2]], {"lengths": [2**70]}),
        (ValueError, r"position_ids of shape \(3,\) do not broadcast", [[1, 2]], {"lengths": [1], "position_ids": [1, 2, 3]}),
        (TypeError, "mask must be booleans, or integers 0 and 1, got", [[1, 2]], {"mask": [[2, 0]]}),
        (ValueError, "mask of shape", [[1, 2]], {"mask": [True, False, True]}),
        (ValueError, "lengths and mask require ids of at least 1 axis", 1, {"mask": True}),
        (ValueError, "type_ids require a layer with types", [1, 2], {"type_ids": [0, 0]}),
        (IndexError, r"token id 9 at position \(0, 1\)", [[1, 9, -5]], {"lengths": [2]}),
        (IndexError, "position id 4", [[1] * 5], {"mask": [[True] * 5]}),
        (IndexError, rf"token id {2**70} at position \(0, 0\) .* of 9 rows", [[2**70, 2**71]], {"lengths": [1]}),
        (IndexError, rf"token id -{2**70} at position \(0, 1\)", [[2**71, -(2**70)]], {"mask": [False, True]}),
        (IndexError, rf"position id {2**70} at position \(0, 1\)", [[1, 2]], {"lengths": [2], "position_ids": [0, 2**70]}),
        (IndexError, r"token id 9 at position \(0, 0\)", [[9, 2]], {"lengths": [2], "position_ids": [0, 2**70]}),
        (IndexError, r"token id 9 at position \(0, 0\)", [[9, 2]], {"position_ids": [0, 2**70]}),
        (IndexError, rf"position id {2**70} at position \(1, 1\)", [[1, 2]] * 2, {"position_ids": [[0, 0], [1, 2**70]]}),
    ):
        for use in (layer, backward):
            with pytest.raises(error, match=text):
                use(ids, **call)
    assert layer([[1] * 9], lengths=[4]).shape == (1, 9, 3)  # padding may lie past the last position
    assert layer([[1, 2**70]], [[0, -(2**70)]], lengths=[1]).shape == (1, 2, 3)  # and hold what is no id, of any size
    with pytest.raises(ValueError, match="require ids, and none were given"):
        layer.backward(np.ones((1, 9, 3), "f4"), lengths=[4])
    typed = fe.TokenPositionEmbedding(9, 4, 3, n_types=2)
    with pytest.raises(IndexError, match="type id 2"):
        typed([1], type_ids=[2])
    with pytest.raises(IndexError, match=rf"type id {2**70} at position \(0, 0\)"):
        typed([[1, 1]], lengths=[1], type_ids=[[2**70, 2**71]])
    assert typed([[1, 1]], lengths=[1], type_ids=[[1, 2**70]]).shape == (1, 2, 3)
    with pytest.raises(ValueError, match=r"type_ids of shape \(3,\) do not broadcast to token_ids of shape \(1,\)"):
        typed([1], type_ids=[1, 1, 1])
    for options, error in (
        ({"norm": "batch"}, ValueError), ({"dropout": 1.0}, ValueError), ({"dropout": -0.1}, ValueError),
        ({"norm_eps": 0}, ValueError),
        ({"token_scale": "x"}, TypeError), ({"n_types": -1}, ValueError), ({"dropout_seed": 0.5}, TypeError),
    ):  # fmt: skip
        with pytest.raises(error, match=next(iter(options))):
            fe.TokenPositionEmbedding(9, 4, 3, **options)
    shown = repr(fe.TokenPositionEmbedding(9, 4, 3, n_types=2, norm="rms"))
    assert shown == "TokenPositionEmbedding(9, 4, 3, dtype=float32, n_types=2, norm=rms)"


def test_masks_of_integers():
    layer = fe.TokenPositionEmbedding(5, 4, 3, rng=0)
    ids, mask = [[1, 2, 3], [4, 0, 0]], [[1, 1, 1], [1, 0, 0]]
    expected = layer(ids, mask=np.array(mask, bool))
    for dtype in (int, np.uint8, np.int32):
        assert np.array_equal(layer(ids, mask=np.array(mask, dtype)), expected)
    assert np.array_equal(layer(ids, mask=mask), expected)


def test_tables_of_a_checkpoint(tmp_path):
    tables = {"wte": np.random.default_rng(0).normal(size=(3, 2)).astype("f4"), "wpe": np.ones((4, 2), "f4")}
    checkpoint.save(tmp_path / "model.safetensors", {f"transformer.{name}.weight": table for name, table in tables.items()})
    layer = fe.TokenPositionEmbedding.from_file(tmp_path / "model.safetensors", dropout=0.5)
    assert (layer.wte.tobytes(), layer.wpe.tobytes()) == (tables["wte"].tobytes(), tables["wpe"].tobytes())
    assert (layer.dropout, layer.vocabulary) == (0.5, None)
    assert fe.TokenPositionEmbedding.from_file(tmp_path / "model.safetensors", dtype="float64").wte.dtype == float
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1, "c": 2}')
    assert list(fe.TokenPositionEmbedding.from_file(tmp_path).vocabulary) == ["a", "b", "c"]
    with pytest.raises(checkpoint.CheckpointError, match="name 'x' must be that of one tensor"):
        fe.TokenPositionEmbedding.from_file(tmp_path, wpe="x")
    with pytest.raises(FileNotFoundError):
        fe.TokenPositionEmbedding.from_file(tmp_path / "none")
