"""N-gram tables: the reference's bits in calls and training, tables, what is refused."""

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
from common import DTYPES, examples, floats, needs_c, same_bits
from hypothesis import given
from hypothesis import strategies as st
from optimizers import MAKE, like_of

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

OPTIONS = {"multipliers": [3, 5, 9], "head_sizes": [[7, 5], [3, 2]], "vocab_size": 20, "fill": 0, "cut": 4}
V, W, D = 19, 4, 3  # two rows more than the hash selects
HALVES = ("float16", "bfloat16")


def hashes():
    return fe.NgramHash(**OPTIONS), reference.NgramHash(**OPTIONS)


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def plain(hash, table, ids, **sequences):
    rows = hash(ids, **sequences)
    return table[rows].reshape(*rows.shape[:-1], -1)


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
@examples(30)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from([*MAKE, None]), trainable_rows=st.sampled_from([None, [0, 7, 11]]))
def test_layers_train_as_the_reference_does(dtype, seed, name, trainable_rows):
    rng, (hash, like_hash) = np.random.default_rng(seed), hashes()
    to, wide = dtype_of(dtype), np.dtype("float64" if dtype == "float64" else "float32")
    table = rng.standard_normal((V, D)).astype(to)
    layer = fe.NgramEmbedding(hash, table.copy(), trainable_rows=trainable_rows)
    like = reference.NgramEmbedding(like_hash, table.astype(wide).tolist(), dtype=dtype, trainable_rows=trainable_rows)
    opt = name and MAKE[name]([layer])
    like_opt = name and like_of(opt, [like], dtype)
    for step in range(3):
        ids, history = rng.integers(0, 20, (2, 4)), rng.integers(0, 20, (2, 2))
        sequences = [{}, {"history": history}, {"lengths": [3, 0, 5]}][rng.integers(3)]
        ids = ids.reshape(-1) if "lengths" in sequences else ids
        of_lists = {key: value if isinstance(value, list) else value.tolist() for key, value in sequences.items()}
        x = layer(ids, **sequences)
        assert same_bits(x, np.array(like(ids.tolist(), **of_lists), to))
        dout = rng.standard_normal(x.shape).astype(wide)
        fused = opt if opt and step % 2 else None
        layer.backward(dout, optimizer=fused)
        like.backward(dout.tolist(), optimizer=like_opt if fused else None)
        if opt and not fused:
            opt.step(), like_opt.step()
            opt.zero_grad(), like.zero_grad()
    grad, expected = layer.grads()["weight"], like.grads()["weight"]
    assert grad.ids.tolist() == expected.ids
    assert same_bits(grad.rows, np.array(expected.rows, wide).reshape(-1, D))
    assert same_bits(layer.weight, np.array(like.weight, to))


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
@pytest.mark.parametrize("layout", ["plain", "rows apart", "columns apart", "swapped", "unaligned"])
def test_tables_of_every_layout_and_places_for_results(dtype, layout):
    if layout == "swapped" and dtype == "bfloat16":
        pytest.skip("bfloat16 has one byte order")
    rng, to, (hash, _) = np.random.default_rng(0), dtype_of(dtype), hashes()
    table = floats(rng, (V, D), "float32").clip(-6e4, 6e4).astype(to)
    given = table
    if layout == "rows apart":
        given = np.zeros((2 * V, D + 2), to)[::-2, 1:-1]
    elif layout == "columns apart":
        given = np.zeros((V, 2 * D), to)[:, ::2]
    elif layout == "swapped":
        given = table.astype(to.newbyteorder())
    elif layout == "unaligned":
        given = np.zeros(table.nbytes + 1, np.uint8)[1:].view(to).reshape(V, D)
    given[...] = table
    layer, ids = fe.NgramEmbedding(hash, given), rng.integers(0, 20, (5, 6))
    expected = plain(hash, table, ids)
    assert same_bits(layer(ids), expected)
    out = np.zeros((5, 9, W * D + 1), to)[:, 1:7, :-1]
    assert layer(ids, out=out) is out
    assert same_bits(out, expected)
    assert same_bits(layer(ids[:, 2:], ids[:, :2]), expected[:, 2:])
    assert same_bits(layer(ids.reshape(-1), lengths=[6] * 5), expected.reshape(30, -1))
    assert layer(ids[:, :0]).shape == (5, 0, W * D)


def test_a_table_of_one_column_of_half_precision_anywhere():
    hash, _ = hashes()
    table = np.arange(4 * V, dtype="f2").reshape(V, 4)[:, 1::4]
    assert same_bits(fe.NgramEmbedding(hash, table)([1, 2, 3]), plain(hash, table, [1, 2, 3]))


@needs_c
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_a_large_batch_on_every_number_of_threads(n_threads, isa):
    rng = np.random.default_rng(0)
    hash = fe.NgramHash(rng.integers(0, 2**50, 3), [[997, 1009, 1013], [1019, 1021, 1031]], vocab_size=1000, fill=0)
    table, ids = rng.standard_normal((hash.n_rows, 160), "f4"), rng.integers(0, 1000, (3, 2000))
    with fe.threads(n_threads):
        assert same_bits(fe.NgramEmbedding(hash, table)(ids), plain(hash, table, ids))
        assert same_bits(fe.NgramEmbedding(hash, table.astype("f2"))(ids), plain(hash, table.astype("f2"), ids))


def test_mapped_tables_look_up_and_train(tmp_path):
    (hash, _), path, rng = hashes(), tmp_path / "table.npy", np.random.default_rng(0)
    table = rng.standard_normal((V, D))
    np.save(path, table)
    ids, history = rng.integers(0, 20, (2, 5)), rng.integers(0, 20, (2, 2))
    with fe.NgramEmbedding.open(path, hash=hash) as layer:
        assert same_bits(layer(ids, history), plain(hash, table, ids, history=history))
        assert layer.hash is hash
    like = fe.NgramEmbedding(hash, table.copy())
    with fe.NgramEmbedding.open(path, "r+", hash=hash) as layer:
        for item in (layer, like):
            x, call = item.call(ids, history)
            item.backward(np.ones_like(x), call=call, optimizer=fe.optim.RowWiseAdagrad([item], lr=0.1))
    assert same_bits(np.load(path), like.weight)
    with fe.NgramEmbedding.create(tmp_path / "new.safetensors", (V, D), init=0.5, hash=hash) as layer:
        assert (layer(ids) == 0.5).all()


def test_pending_updates_and_counts():
    (hash, _), rng = hashes(), np.random.default_rng(0)
    layer = fe.NgramEmbedding.random(hash, D, rng=0).count_lookups()
    like = fe.Embedding.from_pretrained(layer.weight.copy())
    opts = [fe.optim.AdamW([item], lr=0.1) for item in (layer, like)]
    counts = np.zeros(hash.n_rows, int)
    for _ in range(4):
        ids = rng.integers(0, 20, 3)
        rows = hash(ids)
        assert same_bits(layer(ids), like(rows).reshape(3, -1))
        np.add.at(counts, rows, 1)
        dout = rng.standard_normal((3, W * D), "f4")
        layer.backward(dout, ids, optimizer=opts[0])
        like.backward(dout.reshape(3, W, D), rows, optimizer=opts[1])
    assert layer.lookup_counts()["weight"].tolist() == counts.tolist()
    assert same_bits(layer.weight, like.weight)


def test_handles_copies_and_state():
    (hash, _), rng = hashes(), np.random.default_rng(0)
    layer = fe.NgramEmbedding.random(hash, D, dtype="float64", rng=0)
    ids = rng.integers(0, 20, (2, 7))
    x, call = layer.call(ids.reshape(-1), lengths=[7, 7])
    layer([1])
    layer.backward(np.ones_like(x), call=call)
    assert layer.grads()["weight"].rows.sum() == x.size
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert same_bits(other(ids), layer(ids))
    other = fe.NgramEmbedding.random(hash, D, dtype="float64", rng=1)
    other.load_state_dict(layer.state_dict())
    assert same_bits(other(ids), layer(ids))
    assert same_bits(fe.NgramEmbedding.from_pretrained(layer.weight, hash=hash)(ids), layer(ids))
    layer.resize(V + 5)
    assert same_bits(other(ids), layer(ids))
    assert repr(hash) in repr(layer)


@pytest.mark.parametrize("bits", [8, 4])
def test_packed_tables(bits):
    (hash, _), rng = hashes(), np.random.default_rng(0)
    table = fe.QuantizedEmbedding.from_float(rng.standard_normal((V, 8)), bits=bits)
    layer, ids = fe.PackedNgramEmbedding(hash, table), rng.integers(0, 20, (2, 5))
    expected = plain(hash, table.dequantize(), ids)
    assert same_bits(layer(ids), expected)
    out = np.zeros((2, 5, W * 8), "f4")
    assert layer(ids[:, :], out=out) is out
    assert same_bits(out, expected)
    assert same_bits(layer(ids[:, 2:], ids[:, :2]), expected[:, 2:])
    floats_of_all = fe.NgramEmbedding(hash, table.dequantize())
    for x in fe.NgramEmbedding.look_up_layers([layer, floats_of_all], ids, np.zeros((2, 2), int)):
        assert same_bits(x, plain(hash, table.dequantize(), ids, history=np.zeros((2, 2), int)))
    assert repr(table) in repr(layer)


def packed_table(rng, format, dtype="float32", n_rows=V, width=256):
    """A table of any bytes but those of NaN, which have no one bit pattern in float16."""
    size = fe.reference.formats.packed_size(format, 32 if format.startswith("float8") else 0, False, width)
    rows = rng.integers(0, 256, (n_rows, sum(size)), np.uint8) & 0x77
    return fe.PackedTable(rows, width, format=format, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", *HALVES])
@pytest.mark.parametrize("format", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "q4_k", "q8_0"])
def test_tables_of_every_format_into_every_dtype(format, dtype):
    (hash, _), rng = hashes(), np.random.default_rng(0)
    table, ids, history = packed_table(rng, format), rng.integers(0, 20, (2, 5)), rng.integers(0, 20, (2, 2))
    with np.errstate(over="ignore", invalid="ignore"):
        expected = plain(hash, table.dequantize(), ids, history=history).astype(dtype_of(dtype))
    out = np.zeros((2, 5, W * 256 + 1), dtype_of(dtype))[..., 1:]
    layer = fe.PackedNgramEmbedding(hash, table)
    assert layer(ids, history, out=out) is out
    assert same_bits(out, expected)
    assert same_bits(fe.PackedNgramEmbedding(hash, packed_table(np.random.default_rng(0), format, dtype))(ids, history), expected)


@needs_c
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_several_layers_in_one_call_on_every_number_of_threads(n_threads, isa):
    rng = np.random.default_rng(0)
    sizes = [[[997, 1009], [1019, 1021]], [[13], [17]]]
    hashes = [
        fe.NgramHash(rng.integers(0, 2**50, 3), heads, vocab_size=n, fill=0) for heads, n in zip(sizes, (1000, 900), strict=True)
    ]
    packed = [packed_table(rng, format, n_rows=h.n_rows) for h, format in zip(hashes, ("float8_e4m3fn", "q6_k"), strict=True)]
    layers = [fe.PackedNgramEmbedding(h, table) for h, table in zip(hashes, packed, strict=True)]
    layers.append(fe.NgramEmbedding(hashes[0], rng.standard_normal((hashes[0].n_rows, 3))))
    layers.append(fe.PackedNgramEmbedding(hashes[0], fe.Embedding.from_pretrained(rng.standard_normal((5000, 2), "f4"))))
    ids, history = rng.integers(0, 900, 3000), rng.integers(0, 900, (3, 2))
    sequences = {"history": history, "lengths": [1000, 3, 1997]}
    expected = [layer(ids, **sequences) for layer in layers]
    outs = [np.zeros_like(x) for x in expected]
    with fe.threads(n_threads):
        results = fe.NgramEmbedding.look_up_layers(layers, ids, **sequences, outs=outs)
        assert all(a is b for a, b in zip(results, outs, strict=True))
        for x, like in zip(results, expected, strict=True):
            assert same_bits(x, like)
    assert same_bits(expected[0], plain(hashes[0], packed[0].dequantize(), ids, **sequences))
    ids[2999] = 950  # a token of the first layer alone
    before = [x.copy() for x in outs]
    with pytest.raises(IndexError, match=r"token id 950 at position \(2999,\) is out of range for a vocabulary of 900 tokens"):
        fe.NgramEmbedding.look_up_layers(layers, ids, **sequences, outs=outs)
    for x, like in zip(outs, before, strict=True):
        assert same_bits(x, like)


def test_a_backward_after_a_call_of_several_layers():
    (hash, _), rng = hashes(), np.random.default_rng(0)
    layers, alone = [fe.NgramEmbedding.random(hash, D, rng=k) for k in range(2)], fe.NgramEmbedding.random(hash, D, rng=0)
    ids = rng.integers(0, 20, (2, 7))
    results = fe.NgramEmbedding.look_up_layers(layers, ids)
    assert same_bits(results[0], alone(ids))
    for layer in (layers[0], alone):
        layer.backward(np.ones_like(results[0]))
    assert same_bits(layers[0].grads()["weight"].rows, alone.grads()["weight"].rows)
    assert fe.NgramEmbedding.look_up_layers([], ids) == []


def test_what_is_refused():
    hash, _ = hashes()
    table = np.zeros((V, D))
    layer = fe.NgramEmbedding(hash, table)
    out = np.full((2, W * D), 5.0)
    for call, error, text in (
        (lambda: fe.NgramEmbedding(hash, table[:16]), ValueError, "the table must have the 17 rows that hash selects, got 16"),
        (lambda: fe.NgramEmbedding([1], table), TypeError, r"hash must be a NgramHash, got \[1\]"),
        (lambda: fe.NgramEmbedding(1000, 8), TypeError, "hash must be a NgramHash, got 1000"),
        (lambda: fe.PackedNgramEmbedding(hash, table), TypeError, "table must be a layer that returns rows for ids"),
        (lambda: fe.NgramEmbedding.from_pretrained(table, hash=hash, bounds="wrap"), TypeError, "has no option bounds; it has"),
        (lambda: layer([1, 20], out=out), IndexError, "token id 20 at position .* out of range for a vocabulary of 20 tokens"),
        (lambda: layer([1, 2], [1, 20], out=out), IndexError, "history token id 20 at position"),
        (lambda: layer([1], out=out), ValueError, r"out must have shape \(1, 12\), got \(2, 12\)"),
        (lambda: layer([1, 2], out=out.astype("f4")), TypeError, "out must be"),
        (lambda: fe.NgramEmbedding.look_up_layers([layer, 5], [1]), TypeError, "layers must be NgramEmbedding or .*, got 5"),
        (
            lambda: fe.NgramEmbedding.look_up_layers([layer], [1], outs=[]),
            ValueError,
            "outs must be 1 arrays, one for each layer, got 0",
        ),
        (
            lambda: fe.NgramEmbedding.look_up_layers([layer] * 2, [1, 2], outs=[out] * 2),
            ValueError,
            "out must not overlap the result of layer 0",
        ),
        (lambda: layer.backward(np.ones((2, 5)), [1, 2]), ValueError, r"dout must have shape \(2, 12\), got \(2, 5\)"),
        (lambda: layer.backward(np.ones((2, 12))), RuntimeError, "backward needs ids"),
        (
            lambda: fe.PackedNgramEmbedding(hashes()[0], fe.EmbeddingBag(V, D)),
            TypeError,
            "table must be a layer that returns a row for each id, got EmbeddingBag",
        ),
        (lambda: layer.resize(16), ValueError, "n must be at least 17, the rows that the hash selects; got 16"),
    ):
        with pytest.raises(error, match=text):
            call()
    assert (out == 5).all()
    assert not layer.has_grad


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
def test_rows_without_columns(dtype):
    """A token has W rows of nothing: the result has no columns, from a call of any form."""
    hash, _ = hashes()
    layer = fe.NgramEmbedding(hash, np.zeros((V, 0), dtype_of(dtype)))
    packed = fe.PackedNgramEmbedding(hash, fe.QuantizedEmbedding.from_float(np.zeros((V, 0), "f4")))
    for each in (layer, packed):
        assert each([1, 2]).shape == each([1, 2], [3, 4]).shape == each([1, 2], lengths=[2, 0]).shape == (2, 0)
    assert [x.shape for x in fe.NgramEmbedding.look_up_layers([layer, packed], [1])] == [(1, 0), (1, 0)]
    layer.backward(np.zeros((2, 0)), [1, 2])
    assert layer.grads()["weight"].rows.shape[1] == 0
    with pytest.raises(IndexError, match="token id 20 at position"):
        layer([1, 20])


@needs_c
def test_the_kernels_refuse_arrays_that_do_not_match():
    from fastembed._kernels.backend import kernels

    heads, table, packing = np.ones((4, 3), np.uint64), np.zeros((5, 3), "f4"), None
    hash, history, out = (np.ones(3, np.uint64), None, 5, 0, np.zeros(0, np.int64), False), None, np.zeros((2, 4, 3), "f4")
    layer = {"hash": hash, "heads": heads, "history": history, "table": table, "packing": packing, "out": out}
    tokens, starts = np.arange(2), np.array([0, 2])
    kernels.ngram_gather([tuple(layer.values())] * 2, tokens, starts)
    kernels.ngram_gather([], tokens, starts)
    for changed, text in (
        ({"heads": heads[:3]}, "as many heads for each mix are needed"),
        ({"heads": heads[:0]}, "as many heads for each mix are needed"),
        ({"heads": heads * np.array([1, 1, 5], np.uint64)}, "a table has fewer rows than its heads select"),
        ({"heads": heads * np.array([6, 1, 0], np.uint64)}, "a table has fewer rows than its heads select"),
        ({"history": np.array([[1, 5]])}, "a token of the history outside"),
        ({"table": np.zeros((5, 6), "f4")[:, ::2]}, "elements of a row side by side"),
        ({"out": out[:, :2]}, "shape of the result does not match"),
        ({"out": out[:1]}, "shape of the result does not match"),
        ({"out": np.zeros(3, "f4")}, "shape of the result does not match"),
        ({"out": out[..., :2]}, "does not match"),
        ({"out": out.astype("f2")}, "does not match"),
        ({"hash": (np.ones(1, np.uint64), *hash[1:])}, "2 to 64 tokens"),
    ):
        with pytest.raises(ValueError, match=text):
            kernels.ngram_gather([tuple((layer | changed).values())], tokens, starts)
    mixes = np.zeros((2, 2), np.uint64)
    for pair in ((mixes[:, :0], heads), (np.zeros((), np.uint64), heads), (mixes, heads[:3])):
        with pytest.raises(ValueError, match="as many heads for each mix are needed"):
            kernels.ngram_rows(*pair)
    hash = np.ones(2, np.uint64), None, *hash[2:]
    tokens = {"starts": np.array([0, 2]), "history": None, "hash": hash}
    assert kernels.ngram_mixes(np.arange(2), **tokens).tolist() == [[0], [1]]
    for changed, text in (
        ({"starts": np.array([0, 3])}, "starts must not decrease"),
        ({"starts": np.array([0, 2, 1, 2])}, "starts must not decrease"),
        ({"history": np.array([[5]])}, "a token of the history outside"),
        ({"history": np.zeros(2, int)}, "history does not match"),
        ({"hash": (np.ones(1, np.uint64), *hash[1:])}, "2 to 64 tokens"),
        ({"hash": (hash[0], np.zeros(4, int), *hash[2:])}, "token_map does not match"),
    ):
        with pytest.raises(ValueError, match=text):
            kernels.ngram_mixes(np.arange(2), **(tokens | changed))


def test_words_are_no_history_and_a_vocabulary_has_tokens():
    hash = fe.NgramHash([3, 5, 9], [[7, 11], [13, 17]], vocab_size=100, fill=0)
    with pytest.raises(TypeError, match="history token ids must be integers, got strings"):
        hash([1, 2], history="ab")
    with pytest.raises(ValueError, match="vocab_size must be at least 1, got 0"):
        fe.NgramHash([3, 5], [[7, 11]], vocab_size=0, fill=0)


def test_a_table_without_its_hash_says_what_is_missing(tmp_path):
    np.save(tmp_path / "t.npy", np.zeros((48, 2)))
    for make, source in ((fe.NgramEmbedding.open, tmp_path / "t.npy"), (fe.NgramEmbedding.from_pretrained, np.zeros((48, 2)))):
        with pytest.raises(TypeError, match=r"^hash must be a NgramHash, got None$"):
            make(source)


def test_layers_and_outs_are_iterables():
    hash = fe.NgramHash([3, 5], [[7, 11]], vocab_size=100, fill=0)
    layer = fe.NgramEmbedding.random(hash, 4, rng=0)
    with pytest.raises(TypeError, match=r"layers must be an iterable, got 5"):
        fe.NgramEmbedding.look_up_layers(5, [1])
    with pytest.raises(TypeError, match="outs must be an iterable, got 5"):
        fe.NgramEmbedding.look_up_layers([layer], [1], outs=5)


def test_what_is_no_config_is_named():
    config = {
        "ple_layer_ids": [2], "ngram_size": 2, "heads_per_ngram": 1, "vocab_size": 10, "seed": 1,
        "ngram_vocab_size_base": 10, "eos_token_id": [],
    }  # fmt: skip
    for call, error, message in (
        (lambda: fe.NgramHash.from_config(None, 1), TypeError, "config must be a mapping, got None"),
        (lambda: fe.NgramHash.from_config({"text_config": [1]}, 1), TypeError, r"text_config must be a mapping, got \[1\]"),
        (lambda: fe.NgramHash.from_gguf(None), TypeError, "metadata must be a mapping, got None"),
        (lambda: fe.NgramHash.from_config(config, 2), ValueError, "eos_token_id must be a token or at least one"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_offsets_of_heads_in_gguf_are_as_many_as_heads():
    metadata = {
        "general.architecture": "x", "x.ple.layers": [1], "x.ple.multipliers": [3, 5], "x.ple.primes": [7, 11],
        "x.ple.head_offsets": [0],
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"x\.ple\.head_offsets must have a number for each of 2 heads, got 1"):
        fe.NgramHash.from_gguf(metadata)
