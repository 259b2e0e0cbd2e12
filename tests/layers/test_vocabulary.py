"""Names of rows, and tables that grow with them: what is added, what stays, what is refused."""

import copy
import pickle

import numpy as np
import pytest
from common import DTYPES, assert_same, outcome, same_bits
from optimizers import MAKE, each_optimizer, like_of

import fastembed as fe
from fastembed import checkpoint, reference

pytestmark = pytest.mark.on_reference

NAMES = ["a", "b", "c", "d", "e", "f"]

ALL_DTYPES = [*DTYPES, "float16", "bfloat16"]


def named(layer, names=NAMES):
    layer.vocabulary = names
    return layer


def test_names_to_ids_and_back():
    vocabulary = fe.Vocabulary(iter(["x", "", "\u00e9", "e\u0301"]))
    assert vocabulary.ids("\u00e9") == 2
    assert vocabulary.ids(["e\u0301", "x"]).tolist() == [3, 0]
    ids = vocabulary.ids([["x", ""], ["", "\u00e9"]])
    assert (ids.dtype, ids.tolist()) == (np.int64, [[0, 1], [1, 2]])
    assert vocabulary.ids(()).shape == (0,)
    assert vocabulary.names(ids) == [["x", ""], ["", "\u00e9"]]
    assert vocabulary.names(np.uint8(3)) == "e\u0301"
    assert vocabulary.names([]) == []
    assert list(vocabulary) == ["x", "", "\u00e9", "e\u0301"]
    assert (len(vocabulary), "x" in vocabulary, "y" in vocabulary, repr(vocabulary)) == (4, True, False, "Vocabulary(4 names)")
    assert vocabulary == fe.Vocabulary(list(vocabulary))
    assert vocabulary != fe.Vocabulary(["x"])
    assert pickle.loads(pickle.dumps(vocabulary)) == copy.deepcopy(vocabulary) == vocabulary


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (TypeError, "names must be an iterable of strings, got 'abc'", lambda v: fe.Vocabulary("abc")),
        (TypeError, "names must be an iterable of strings, got 3", lambda v: fe.Vocabulary(3)),
        (TypeError, "names must be an iterable of strings, got array", lambda v: fe.Vocabulary(np.array("a"))),
        (TypeError, "names must be strings, got 1 at position 1", lambda v: fe.Vocabulary(["a", 1])),
        (ValueError, "names must be distinct, got 'a' again at position 2", lambda v: fe.Vocabulary(["a", "b", "a"])),
        (KeyError, r"name 'x' at position \(1,\) is not one of the 2 of the vocabulary", lambda v: v.ids(["a", "x"])),
        (KeyError, r"name 'ab' at position \(\)", lambda v: v.ids("ab")),
        (KeyError, r"name 'x' at position \(1, 0\)", lambda v: v.ids([["a", "b"], ["x", "y"]])),
        (TypeError, r"names must be strings, got 1 at position \(1,\)", lambda v: v.ids(["x", 1])),
        (TypeError, r"names must be strings, got 0 at position \(0,\)", lambda v: v.ids([0])),
        (TypeError, r"names must be strings, got \['a', 'b'\] at position \(0,\)", lambda v: v.ids([["a", "b"], ["a"]])),
        (IndexError, r"id 2 at position \(\) is out of range for a table of 2 rows", lambda v: v.names(2)),
        (IndexError, r"id -1 at position \(1,\)", lambda v: v.names([0, -1])),
        (TypeError, "ids must be integers", lambda v: v.names(["a"])),
    ],
)
def test_what_names_cannot_be(error, text, call):
    with pytest.raises(error, match=text):
        call(fe.Vocabulary(["a", "b"]))


def test_names_of_a_mapping_are_in_the_order_of_its_ids():
    assert list(fe.Vocabulary({"d": 3, "a": 0, "c": 2, "b": np.int64(1)})) == ["a", "b", "c", "d"]
    for ids in ([0, 2], [1, 1], [0, 1.0], [0, -1], [0, "1"]):
        with pytest.raises(ValueError, match=r"^names must have the ids 0 to 1, each once, as a mapping, got \["):
            fe.Vocabulary(dict(zip("ab", ids, strict=True)))
    with pytest.raises(TypeError, match=r"^names must have an order, and a set has none, got \{'a'\}"):
        fe.Vocabulary({"a"})


def test_names_of_numpy_become_strings_of_python():
    layer = named(fe.Embedding(3, 2, rng=0), np.array(["a", "b", "c"]))
    assert {*map(type, layer.vocabulary), type(layer.nearest("a", 1).names[0])} == {str}
    layer.add_tokens(np.array(["d"]))
    assert (type(layer.vocabulary[3]), list(layer.vocabulary)) == (str, ["a", "b", "c", "d"])


def test_a_layer_has_a_name_for_each_row_or_none():
    layer = fe.Embedding(6, 2, rng=0)
    assert layer.vocabulary is None
    for names, error in ((NAMES[:5], ValueError), (["a"] * 6, ValueError), ("abcdef", TypeError)):
        with pytest.raises(error):
            layer.vocabulary = names
    assert layer.vocabulary is None
    assert list(named(layer).vocabulary) == NAMES
    layer.resize(4)
    assert list(layer.vocabulary) == NAMES[:4]
    with pytest.raises(ValueError, match="n must be at most 4, got 5: rows that have names are added by add_tokens"):
        layer.resize(5)
    assert layer.weight.shape == (4, 2)
    layer.vocabulary = None
    layer.resize(5)
    emb = named(fe.TokenPositionEmbedding(6, 3, 2, rng=0))
    emb.resize(9, table="wpe")
    assert list(emb.vocabulary) == NAMES


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_have_the_names_and_grow_alone(copied):
    layer = named(fe.Embedding(6, 2, rng=0))
    layer.backward(np.ones((1, 2)), [5])
    other = copied(layer)
    assert other.vocabulary == layer.vocabulary
    other.add_tokens(["g"])
    assert (len(layer.vocabulary), layer.weight.shape, layer([5]).shape) == (6, (6, 2), (1, 2))
    assert (len(other.vocabulary), other.weight.shape, other([6]).shape) == (7, (7, 2), (1, 2))
    assert (layer.grads()["weight"].shape, other.grads()["weight"].shape) == ((6, 2), (7, 2))


def test_names_in_a_checkpoint(tmp_path):
    layer = named(fe.Embedding(6, 2, rng=0))
    layer.add_tokens(["\u00e9", 'quote" \\ \n'])
    checkpoint.save(tmp_path / "t", layer.state_dict(), {"vocabulary": list(layer.vocabulary)})
    tensors, description = checkpoint.load(tmp_path / "t")
    again = named(fe.Embedding.from_pretrained(tensors["weight"]), description["vocabulary"])
    assert again.vocabulary == layer.vocabulary
    assert same_bits(again.weight, layer.weight)


def new_layer(kind, dtype, padding_idx=None):
    """A layer of six rows of 3, and the reference's."""
    options = {} if kind == "TokenPositionEmbedding" else {"padding_idx": padding_idx}
    if kind == "TokenPositionEmbedding":
        layer = fe.TokenPositionEmbedding(6, 5, 3, dtype=dtype, std=1.0, rng=0)
        tables = [np.asarray(table, np.float64).tolist() for table in layer.parameters()]
        return layer, reference.TokenPositionEmbedding.from_arrays(*tables, dtype=dtype)
    layer = getattr(fe, kind)(6, 3, dtype=dtype, rng=0, **options)
    rows = np.asarray(layer.weight, np.float64).tolist()
    return layer, getattr(reference, kind).from_pretrained(rows, dtype=dtype, **options)


def bits(array):
    return array.view(f"u{array.itemsize}")


KINDS = [("Embedding", None), ("Embedding", 2), ("EmbeddingBag", None), ("EmbeddingBag", -1), ("TokenPositionEmbedding", None)]


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize(("kind", "padding_idx"), KINDS)
def test_the_reference_grows_alike(kind, padding_idx, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    layer, like = new_layer(kind, dtype, padding_idx)
    named(layer)
    like.names = list(NAMES)
    for names, init in ((["g", "h"], "mean"), (["i"], "mean"), (["j", "k"], [[1.0, 2.0, 0.1], [3.0, 4.0, 5.0]])):
        ids = layer.add_tokens(names, init=init)
        assert (ids.dtype, ids.tolist()) == (np.int64, like.add_tokens(names, init))
        assert list(layer.vocabulary) == like.names
        (table, *others), (like_table, *like_others) = layer.parameters(), like.parameters()
        expected = np.array(like_table).astype(table.dtype)
        assert (bits(table) == bits(expected)).all()
        assert all((bits(a) == bits(np.array(b).astype(a.dtype))).all() for a, b in zip(others, like_others, strict=True))


@pytest.mark.parametrize("width", [1, 16, 40])
def test_the_mean_is_summed_in_the_order_of_the_rows(width):
    """More rows than are summed at one time; a sum in pairs would have other bits."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((9_000, width)) * 10.0 ** rng.integers(-8, 8, (9_000, 1))
    layer = named(fe.Embedding.from_pretrained(table), map(str, range(9_000)))
    total = np.zeros(width)
    for row in table:
        total += row
    (new,) = layer.add_tokens("x")
    assert same_bits(layer.weight[new], total / 9_000)


@each_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "padding_idx"), KINDS)
def test_training_goes_on_as_in_the_reference(kind, padding_idx, dtype, name):
    rng = np.random.default_rng(1)
    layer, like = new_layer(kind, dtype, padding_idx)
    opt = MAKE[name](layer)
    like_opt = like_of(opt, like, dtype)
    named(layer)
    like.names = list(NAMES)
    for new in ([], ["g"], ["h", "i"]):
        layer.add_tokens(new)
        like.add_tokens(new)
        for _ in range(4):
            ids = rng.integers(0, 6 + len(new), (2, 3))
            dout = rng.standard_normal((2, 3) if kind == "EmbeddingBag" else (2, 3, 3)).astype(dtype)
            layer.backward(dout, ids, optimizer=opt)
            like.backward(dout.tolist(), ids.tolist(), optimizer=like_opt)
    for table, like_table in zip(layer.parameters(), like.parameters(), strict=True):
        assert same_bits(table, np.array(like_table, dtype))


ROUNDINGS = [{}, {"master_rows": True}, {"stochastic_rounding": 3}]


@each_optimizer
@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("rounding", ROUNDINGS, ids=["nearest", "masters", "stochastic"])
def test_old_rows_do_not_notice(rounding, dtype, name):
    """Their values, their state, and every later step are those of a table that never grew."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(2)
    start = rng.standard_normal((6, 5)).astype(fe.Embedding(0, 1, dtype=dtype).dtype)
    layers = [named(fe.Embedding.from_pretrained(start.copy())) for _ in range(2)]
    options = {"lr_multipliers": [1.0, 0.5, 0.0, 2.0, 1.0, 1.0], "trainable_rows": [0, 1, 2, 3, 4, 6, 7]}
    opts = []
    for layer in layers:
        layer.trainable_rows = [i for i in options["trainable_rows"] if i < 6]
        opts.append(MAKE[name](layer, lr_multipliers=options["lr_multipliers"], **rounding))
    for step in range(12):
        if step == 5:
            old = copy.deepcopy(opts[1].state_dict())
            layers[1].add_tokens(["g", "h"])
            layers[1].trainable_rows = options["trainable_rows"]
            opts[1].lr_multipliers = [*options["lr_multipliers"], 1.0, 3.0]
            assert opts[1].state_dict()["items"][0]["step"] == old["items"][0]["step"]
            for kind, arrays in old["items"][0].items():
                if kind != "step":
                    assert same_bits(opts[1].state_dict()["items"][0][kind]["weight"][:6], arrays["weight"])
        ids, dout = rng.integers(0, 6, 4), rng.standard_normal((4, 5)).astype(np.float32)
        for layer, opt in zip(layers, opts, strict=True):
            layer.backward(dout, ids, optimizer=opt)
    assert (bits(layers[1].weight[:6]) == bits(layers[0].weight)).all()
    assert (bits(layers[1].weight[5]) == bits(start[5])).all()
    for kind, arrays in opts[0].state_dict()["items"][0].items():
        if kind != "step":
            assert same_bits(opts[1].state_dict()["items"][0][kind]["weight"][:6], arrays["weight"])


def test_accumulated_gradients_stay():
    layer = named(fe.TokenPositionEmbedding(6, 4, 2, dtype="float64", rng=0))
    layer.backward(np.ones((2, 2)), [1, 5])
    layer.add_tokens(["g"])
    assert layer.grads()["wte"].ids.tolist() == [1, 5]
    assert layer.grads()["wte"].shape == (7, 2)
    fe.optim.SGD(layer, lr=0.5).step()


@pytest.mark.parametrize("rows", ["trainable_rows", "lr_multipliers"])
def test_options_of_the_old_number_of_rows_are_told_before_anything_moves(rows):
    layer = named(fe.Embedding(6, 2, dtype="float64", rng=0))
    opt = fe.optim.Adam(layer, **{rows: np.ones(6, bool) if rows == "trainable_rows" else np.ones(6)})
    layer.backward(np.ones((1, 2)), [1], optimizer=opt)
    layer.add_tokens(["g"], init=0.0)
    before = layer.weight.copy()
    with pytest.raises(ValueError, match=rf"{rows} must .*\(7,\)"):
        layer.backward(np.ones((1, 2)), [6], optimizer=opt)
    assert same_bits(layer.weight, before)
    setattr(opt, rows, np.ones(7, bool) if rows == "trainable_rows" else np.ones(7))
    layer.backward(np.ones((1, 2)), [6], optimizer=opt)
    assert (layer.weight[6] < 0).all()


def test_from_nothing():
    layer = fe.Embedding(0, 2, dtype="float64")
    assert layer.add_tokens(["a", "b"]).tolist() == [0, 1]
    assert layer.weight.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert layer.add_tokens("c", init=[1.0, 2.0]).tolist() == [2]
    assert layer.add_tokens(["d", "e"], init=7).tolist() == [3, 4]
    assert layer(layer.vocabulary.ids(["c", "e"])).tolist() == [[1.0, 2.0], [7.0, 7.0]]
    only_padding = named(fe.Embedding.from_pretrained([[3.0, 4.0]], padding_idx=0), ["<pad>"])
    only_padding.add_tokens("x")
    assert only_padding.weight.tolist() == [[3.0, 4.0], [0.0, 0.0]]
    assert only_padding.padding_idx == 0


def test_no_names_change_nothing():
    layer = named(fe.Embedding(6, 2, rng=0))
    weight = layer.weight
    assert layer.add_tokens([]).shape == (0,)
    assert layer.weight is weight


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (ValueError, "names must be new, and the vocabulary has 'a', 'b', 'c' and 1 more", (["a", "b", "x", "c", "d"],)),
        (ValueError, "names must be distinct, got 'x' again at position 1", (["x", "x"],)),
        (TypeError, "names must be strings, got None at position 0", ([None],)),
        (TypeError, "names must be an iterable of strings, got 2", (2,)),
        (ValueError, "init must be \"mean\", a number or rows, got 'zeros'", ("x", "zeros")),
        (ValueError, r"init of shape \(3,\) cannot be broadcast to shape \(1, 2\)", ("x", [1.0, 2.0, 3.0])),
        (ValueError, r"init of shape \(3, 2\) cannot be broadcast to shape \(2, 2\)", (["x", "y"], np.ones((3, 2)))),
        (TypeError, "init must be numbers that convert to float32, got complex128", ("x", 1j)),
    ],
)
def test_what_is_refused_changes_nothing(error, text, arguments):
    layer = named(fe.Embedding(6, 2, rng=0))
    opt = fe.optim.Adam(layer)
    layer.backward(np.ones((1, 2)), [0])
    before, vocabulary, state = layer.weight.copy(), layer.vocabulary, copy.deepcopy(opt.state_dict())
    with pytest.raises(error, match=text):
        layer.add_tokens(*arguments)
    assert same_bits(layer.weight, before)
    assert layer.vocabulary is vocabulary
    assert layer.grads()["weight"].ids.tolist() == [0]
    assert str(opt.state_dict()) == str(state)


def test_rows_without_names_come_first():
    layer = fe.Embedding(6, 2, rng=0)
    with pytest.raises(ValueError, match="the 6 rows have no names: set vocabulary to theirs before tokens are added"):
        layer.add_tokens(["g"])
    assert layer.weight.shape == (6, 2)


def test_the_reference_refuses_the_same():
    layer, like = new_layer("Embedding", "float64")
    assert_same(outcome(layer.add_tokens, ["g"]), outcome(like.add_tokens, ["g"]), float, ())
    named(layer)
    like.names = list(NAMES)
    assert_same(outcome(layer.add_tokens, ["g", "a"]), outcome(like.add_tokens, ["g", "a"]), float, ())
    assert len(like.weight) == 6
