"""Messages are short, whatever they are about; an error is one of the documented kinds."""

import calls_of_models
import numpy as np
import pytest
from common import outcome

import fastembed as fe
from fastembed import _checks, reference

pytestmark = pytest.mark.on_reference

WORDS = [f"word{i}" for i in range(5_000)]
HUGE = 10**5000  # has no text: Python converts at most 4300 digits
LIMIT = 800  # characters of a message: a list of eight names, each cut to 80, and the words around it


class Unprintable:
    """An object without a text."""

    def __repr__(self):
        raise RuntimeError("x" * 10**5)


class Wordy:
    """An object of which the text is long, and which is nothing that is asked for."""

    def __repr__(self):
        return "x" * 10**5


class Hungry:
    def __repr__(self):
        raise MemoryError


RECORDS = np.zeros(2, [(f"field{i}", "f4") for i in range(500)])

HOSTILE = {
    "words": WORDS,
    "word": "w" * 10**6,
    "huge": HUGE,
    "huge ids": [HUGE, -HUGE],
    "huge in a list": [[1], HUGE],
    "digits": [10**77, 10**100],
    "mapping": dict.fromkeys(WORDS),
    "names": {"x" * 10**5: [1], HUGE: [2]},
    "records": RECORDS,
    "records in two axes": RECORDS.reshape(1, 2),
    "objects": np.array([Wordy(), Unprintable()], object),
    "unprintable": Unprintable(),
    "wordy": Wordy(),
    "nested": [[WORDS], [WORDS]],
    "ragged": [[1], [1, 2], WORDS],
    "long array": np.zeros(100_000),
    "bytes": b"b" * 10**6,
}


def calls():
    """(a name, a public call, its arguments by name), all of them good."""
    table, ids, dout = np.ones((6, 3)), [0, 2], np.ones((2, 3))
    yield "gather", fe.gather, {"table": table, "ids": ids, "out": None, "bounds": "raise"}
    pair = {"wte": table, "token_ids": ids, "wpe": table, "position_ids": ids, "start": 0, "out": None, "bounds": "raise"}
    yield "gather_add", fe.gather_add, pair
    yield "scatter_add", fe.scatter_add, {"table": table.copy(), "ids": ids, "values": dout, "bounds": "raise"}
    yield "gather_add_backward", fe.gather_add_backward, {
        "dout": dout, "token_ids": ids, "dwte": table.copy(), "dwpe": table.copy(), "position_ids": ids, "bounds": "clip"
    }  # fmt: skip
    bags = {"ids": ids, "offsets": [0, 1], "mode": "sum", "per_sample_weights": [1.0, 2.0], "padding_idx": 1}
    bags |= {"include_last_offset": False, "bounds": "raise"}
    yield "embedding_bag", fe.embedding_bag, {"table": table, **bags, "out": None}
    yield "embedding_bag_backward", fe.embedding_bag_backward, {
        "dout": dout, "dtable": table.copy(), "table": table, "scale_grad_by_freq": False, **bags
    }  # fmt: skip
    yield "table_statistics", fe.table_statistics, {"table": table, "lookups": [0] * 6}
    yield "hash_ids", fe.hash_ids, {"ids": ids, "num_rows": 5, "seed": 0, "hash": None}
    yield "set_num_threads", fe.set_num_threads, {"n": fe.get_num_threads()}
    rows = {"ids": [0, 2], "rows": dout, "shape": (6, 3)}
    yield "RowGrad", fe.RowGrad, rows
    yield "from_coo", fe.RowGrad.from_coo, {"data": np.ones(2), "row_col": ([0, 1], [1, 2]), "shape": (6, 3)}
    grad = fe.RowGrad(**rows)
    yield "scale", grad.scale, {"factor": 2.0}
    yield "clip_", grad.clip_, {"max_norm": 1.0, "error_if_nonfinite": True}
    yield "clip_value_", grad.clip_value_, {"limit": 1.0}

    sizes = {"num_embeddings": 6, "embedding_dim": 3, "dtype": "float64", "std": 1.0, "rng": 0, "padding_idx": 1}
    options = {"trainable_rows": [1], "max_norm": 1.0, "norm_type": 2.0, "max_norm_in_place": True, "scale_grad_by_freq": False}
    yield "Embedding", fe.Embedding, sizes | options
    yield "EmbeddingBag", fe.EmbeddingBag, sizes | options | {"mode": "sum", "include_last_offset": False}
    dropped = {"dropout": 0.5, "dropout_seed": 0}
    hashed = {"num_rows": 6, "embedding_dim": 3, "seed": 0, "hash": None, "dtype": "float64", "std": 1.0, "rng": 0, **dropped}
    yield "HashEmbedding", fe.HashEmbedding, hashed
    pair = {"vocab_size": 6, "block_size": 6, "n_embd": 3, "n_types": 2, "dtype": "float64", "std": 1.0, "rng": 0}
    pair |= {"token_scale": 2.0, "norm": "rms", "norm_eps": 1e-5, **dropped}
    yield "TokenPositionEmbedding", fe.TokenPositionEmbedding, pair
    yield "from_arrays", fe.TokenPositionEmbedding.from_arrays, {"wte": table, "wpe": table, "wtype": table}
    yield "from_pretrained", fe.Embedding.from_pretrained, {"array": table, "freeze": False}
    yield "from_float", fe.QuantizedEmbedding.from_float, {"table": table, "bits": 8}
    packed = fe.QuantizedEmbedding.from_float(table)
    yield "from_packed", fe.QuantizedEmbedding.from_packed, {"packed": packed.packed, "embedding_dim": 3, "bits": 8}
    yield "quantized", packed, {"ids": ids, "out": None, "bounds": "raise"}
    yield "quantized.gather_add", packed.gather_add, {"token_ids": ids, "wpe": table, "position_ids": ids, "start": 0}
    yield "quantized.bag", packed.bag, bags
    yield "quantized.nearest", packed.nearest, {"queries": [1], "k": 2, "metric": "dot", "exclude_queries": True}

    layer, twin, mapped = (fe.Embedding.from_pretrained(table.copy()) for _ in range(3))
    layer.vocabulary = twin.vocabulary = list("abcdef")
    yield "call", layer, {"ids": ids, "out": None}
    yield "backward", layer.backward, {"dout": dout, "ids": ids, "optimizer": None}
    yield "set_rows", layer.set_rows, {"ids": ids, "rows": dout}
    yield "resize", layer.resize, {"n": 6, "table": "weight"}
    yield "add_tokens", layer.add_tokens, {"names": [], "init": "mean"}
    yield "add known tokens", layer.add_tokens, {"names": ["new", "newer"], "init": 1.0}
    yield "load_state_dict", layer.load_state_dict, {"state": {"weight": np.ones((6, 3))}, "strict": True}
    for name in ("missing", "weight.lookups"):
        yield name, layer.load_state_dict, {"state": {"weight": np.ones((6, 3)), name: [0] * 6}, "strict": False}
    yield "state_dict", layer.state_dict, {"lookups": False}
    yield "count_lookups", layer.count_lookups, {"on": True}
    yield "train", layer.train, {"mode": True}
    yield "nearest", layer.nearest, {"queries": [1], "k": 2, "metric": "dot", "table": "weight", "exclude_queries": True}
    yield "analogy", layer.analogy, {"a": 1, "b": 2, "c": 3, "k": 2, "metric": "l2", "table": "weight", "exclude_queries": True}
    yield "vocabulary", lambda names: setattr(twin, "vocabulary", names), {"names": list("fedcba")}
    yield "Vocabulary", fe.Vocabulary, {"names": ["a", "b"]}
    yield "Vocabulary.ids", twin.vocabulary.ids, {"names": ["a", "b"]}
    yield "Vocabulary.names", twin.vocabulary.names, {"ids": [0, 1]}
    yield "weight", lambda array: setattr(twin, "weight", array), {"array": twin.weight}
    yield "trainable_rows", lambda rows: setattr(layer, "trainable_rows", rows) or fe.optim.SGD(layer), {"rows": [0]}

    emb = fe.TokenPositionEmbedding(6, 6, 3, n_types=2, dtype="float64", rng=0)
    of_call = {"start": 0, "position_ids": [0, 1], "lengths": 2, "type_ids": [0, 1]}
    yield "pair", emb, {"token_ids": ids, **of_call, "out": None}
    yield "pair.mask", emb, {"token_ids": ids, "mask": [True, False]}
    yield "pair.backward", emb.backward, {"dout": dout, "ids": ids, **of_call}
    yield "logits", emb.logits, {"h": dout}
    yield "logits_backward", emb.logits_backward, {"dlogits": np.ones((2, 6)), "h": dout}
    bag = fe.EmbeddingBag.from_pretrained(table, mode="sum")
    yield "bag", bag, {"ids": ids, "offsets": [0, 1], "per_sample_weights": [1.0, 1.0], "out": None}
    yield "bag.backward", bag.backward, {"dout": dout, "ids": ids, "offsets": [0, 1], "per_sample_weights": [1.0, 1.0]}
    yield "hashed", fe.HashEmbedding(6, 3, rng=0), {"ids": ids}
    yield "hashed.strings", fe.HashEmbedding(6, 3, hash=lambda word: HUGE if len(word) > 9 else 1, rng=0), {"ids": ["a"]}

    items = [mapped, fe.Parameter(np.ones(3))]
    yield "Parameter", fe.Parameter, {"array": np.ones(3)}
    yield "clip_grad_norm", fe.optim.clip_grad_norm, {"layers_and_parameters": items, "max_norm": 1.0, "error_if_nonfinite": True}
    step = {"layers_and_parameters": items, "lr": 0.1, "trainable_rows": [1], "lr_multipliers": np.ones(6)}
    rounding = {"master_rows": False, "stochastic_rounding": 1, "step_without_grad": False}
    yield (
        "SGD",
        fe.optim.SGD,
        {**step, **rounding, "momentum": 0.5, "weight_decay": 0.1, "nesterov": True, "dampening": 0.0, "maximize": True},
    )
    yield "Adam", fe.optim.Adam, {**step, "betas": (0.9, 0.99), "eps": 1e-8}
    yield "RowWiseAdagrad", fe.optim.RowWiseAdagrad, {**step, "weight_decay_mode": "l2"}
    sgd = fe.optim.SGD(items)
    yield "group", lambda group: fe.optim.SGD([group]), {"group": {"params": items}}
    for name, value in sgd.state_dict().items():
        yield f"state {name}", lambda value, name=name: sgd.load_state_dict({**sgd.state_dict(), name: value}), {"value": value}
    yield "optimizer state", sgd.load_state_dict, {"state": sgd.state_dict()}
    torch_groups = {"params": [0, 1], "lr": 0.1}
    yield "torch state", sgd.load_torch_state_dict, {"state": {"state": {}, "param_groups": [torch_groups]}}
    for name in ("state", "param_groups"):
        given = {"state": {}, "param_groups": [torch_groups]}
        yield (
            name,
            lambda value, given=given, name=name: sgd.load_torch_state_dict({**given, name: value}),
            {"value": given[name]},
        )
    yield from calls_of_models.calls()


NAMES = [name for name, _, _ in calls()]

ERRORS = (TypeError, ValueError, IndexError, KeyError, RuntimeError, AttributeError, MemoryError)


def call_of(name):
    """A call that nobody has made yet, and its arguments."""
    return next((call, arguments) for known, call, arguments in calls() if known == name)


@pytest.mark.parametrize("name", NAMES)
def test_messages_are_short(name):
    assert NAMES.count(name) == 1
    call, arguments = call_of(name)
    for replaced in arguments:
        for kind, hostile in HOSTILE.items():
            found = outcome(call, **{**arguments, replaced: hostile})
            if found[0] == "raised":
                assert issubclass(found[1], ERRORS), (replaced, kind, found[1])
                assert len(found[2]) <= LIMIT, (replaced, kind, found[2][:2000])
                assert not found[2].startswith("Exceeds the limit"), (replaced, kind)


@pytest.mark.parametrize("name", NAMES)
def test_the_calls_themselves_are_right(name):
    call, arguments = call_of(name)
    call(**arguments)


def test_many_features_of_long_names():
    for k, call in enumerate(calls_of_models.of_long_names()):
        found = outcome(call)
        assert found[0] == "raised", k
        assert issubclass(found[1], ERRORS), (k, found[1])
        assert len(found[2]) <= 2 * LIMIT, (k, found[2][:2000])  # of two lists, of names and those expected


def test_an_integer_without_a_text_is_out_of_range():
    table = np.ones((6, 3))
    text = r"id <an integer of 16610 bits> at position \(1,\) is out of range for a table of 6 rows"
    for call in (
        lambda ids: fe.gather(table, ids),
        fe.Embedding.from_pretrained(table),
        lambda ids: fe.embedding_bag(table, ids, [0]),
    ):
        with pytest.raises(IndexError, match=text):
            call([0, HUGE])
    for big in (HUGE, -HUGE, 10**80, -(10**76), 2**256, 2**255):
        assert outcome(fe.gather, table, [[0], [big]]) == outcome(reference.gather, table.tolist(), [[0], [big]])
        assert outcome(fe.hash_ids, [0, big], 9) == outcome(reference.hash_ids, [0, big], 9)
        given = outcome(fe.Embedding.from_pretrained(table).nearest, [0], big if big > 0 else -big)
        assert given[1] is ValueError
    for bounds in ("wrap", "clip", "zero"):
        got = fe.gather(np.arange(18.0).reshape(6, 3), [HUGE], bounds=bounds)
        assert got.tolist() == reference.gather(np.arange(18.0).reshape(6, 3).tolist(), [HUGE], bounds=bounds)


def test_the_reference_says_the_same():
    layer, like = fe.Embedding.from_pretrained(np.ones((6, 3))), reference.Embedding.from_pretrained(np.ones((6, 3)).tolist())
    state = {name: [] for name in WORDS}
    assert outcome(layer.load_state_dict, state) == outcome(like.load_state_dict, state)
    layer.vocabulary, like.names = WORDS[:6], WORDS[:6]
    assert outcome(layer.add_tokens, WORDS) == outcome(like.add_tokens, WORDS)
    assert outcome(layer.nearest, [0], 1, "x" * 999) == outcome(like.nearest, [0], 1, "x" * 999)
    assert "and 4992 more]; expected" in outcome(like.load_state_dict, state)[2]


def test_values_in_messages():
    assert _checks.shown("x" * 78) == repr("x" * 78)
    assert _checks.shown("x" * 79) == "'" + "x" * 76 + "..."
    assert len(_checks.shown(-(2**256 - 1))) == 79
    assert _checks.shown(2**256) == "<an integer of 257 bits>"
    assert _checks.shown([HUGE]) == "<list>"
    assert _checks.shown(Unprintable()) == "<Unprintable>"
    assert _checks.shown("a\n\x1b[31m") == r"'a\n\x1b[31m'"
    assert _checks.first_few(["a", "b", "c"]) == "a, b, c"
    assert _checks.first_few(["x" * 99, "b", "c", "d"]) == "x" * 77 + "..., b, c and 1 more"
    assert _checks.first_few([]) == "nothing"
    assert _checks.listed(iter("abc")) == "['a', 'b', 'c']"
    assert _checks.listed(range(10)) == "[0, 1, 2, 3, 4, 5, 6, 7 and 2 more]"
    assert _checks.listed([]) == "[]"
    with pytest.raises(MemoryError):
        _checks.shown(Hungry())
