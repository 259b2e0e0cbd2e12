"""Vectors of texts: the means of rows by the reference, for the tokenisers of other libraries."""

import collections
import json
import types

import numpy as np
import pytest

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

WORDS = fe.Vocabulary(["the", "cat", "sat", "on", "a", "mat"])
TEXTS = ["the cat sat", "", "mat", "the the the mat on a cat", "on"]


def split(text):
    return WORDS.ids(text.split())


def of_reference(table, texts, dtype, padding_idx=None, normalize=True):
    """The mean of the rows, its length in float64, and quotients that are rounded once."""
    dtype = reference.arithmetic(dtype)
    rows, r, ids = table.astype(np.float64).tolist(), reference.rounding(dtype), [split(text) for text in texts]
    flat, ends = [int(i) for own in ids for i in own], np.cumsum([0, *map(len, ids)]).tolist()
    means = reference.embedding_bag(rows, flat, ends, include_last_offset=True, padding_idx=padding_idx, dtype=dtype)
    lengths = [reference.rules.norm(row, 2) if normalize else 1.0 for row in means]
    return [[r(x / (length or 1.0)) for x in row] for row, length in zip(means, lengths, strict=True)]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_have_the_bits_of_the_reference(dtype, normalize):
    table = np.random.default_rng(0).standard_normal((6, 19)).astype(dtype)
    layer = fe.Embedding.from_pretrained(table.copy(), padding_idx=0)
    for given, padding in ((table, None), (layer, 0), (fe.EmbeddingBag.from_pretrained(table.copy()), None)):
        encoder = fe.SentenceEncoder(split, given, normalize=normalize)
        vectors = encoder.encode(TEXTS)
        assert vectors.dtype == ("float32" if dtype == "float16" else dtype)
        assert vectors.tolist() == of_reference(table, TEXTS, dtype, padding, normalize)
        assert encoder.encode(TEXTS[3]).tolist() == vectors[3].tolist()
        assert (encoder.encode([]).shape, encoder.embedding_dim) == ((0, 19), 19)
        assert encoder.encode(iter(TEXTS)).tobytes() == vectors.tobytes()
    layer.set_rows([2], 0.0)  # the rows as they are
    changed = layer.weight.copy()
    assert fe.SentenceEncoder(split, layer).encode(TEXTS).tolist() == of_reference(changed, TEXTS, dtype, 0)


def test_packed_tables():
    table = np.random.default_rng(0).standard_normal((6, 8)).astype("float32")
    quantized = fe.QuantizedEmbedding.from_float(table)
    found = fe.SentenceEncoder(split, quantized).encode(TEXTS)
    assert found.tolist() == of_reference(quantized(np.arange(6)), TEXTS, "float32")


def test_what_tokenizers_return():
    table = np.random.default_rng(0).standard_normal((6, 4))
    plain = fe.SentenceEncoder(split, table).encode(TEXTS).tolist()

    def encoding(text):
        ids = [*split(text).tolist(), 5, 5]  # and padding
        return types.SimpleNamespace(ids=ids, attention_mask=[1] * (len(ids) - 2) + [0, 0])

    def mapping(text):
        return {"input_ids": encoding(text).ids, "attention_mask": encoding(text).attention_mask}

    def batch(texts):
        return [encoding(text) for text in texts]

    one, several = types.SimpleNamespace(encode=split), types.SimpleNamespace(encode=None, encode_batch=batch)

    def mixed(text):
        return encoding(text) if text == "mat" else split(text).tolist()

    lists = (encoding, mapping, mixed, one, several, lambda text: split(text).tolist())
    for tokenizer in (*lists, lambda text: tuple(split(text))):
        assert fe.SentenceEncoder(tokenizer, table).encode(TEXTS).tolist() == plain


def test_tokens_may_be_names_of_rows():
    layer = fe.Embedding(len(WORDS), 4, rng=0)
    layer.vocabulary = WORDS
    by_id = fe.SentenceEncoder(split, layer).encode(TEXTS)
    assert fe.SentenceEncoder(str.split, layer).encode(TEXTS).tolist() == by_id.tolist()
    small = fe.QuantizedEmbedding.from_float(layer)
    assert fe.SentenceEncoder(str.split, small).encode(TEXTS).tolist() == fe.SentenceEncoder(split, small).encode(TEXTS).tolist()
    with pytest.raises(KeyError, match=r"the tokens of text 1: name 'dog' at position \(0,\)"):
        fe.SentenceEncoder(str.split, layer).encode(["cat", "dog"])
    with pytest.raises(TypeError, match="the tokens of text 0: ids must be integers, got strings"):
        fe.SentenceEncoder(str.split, layer.weight).encode(["cat"])


def test_the_tokenizers_of_the_library_tokenizers():
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="the"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    table = np.random.default_rng(0).standard_normal((6, 4))
    for _ in range(2):
        assert fe.SentenceEncoder(made, table).encode(TEXTS).tolist() == fe.SentenceEncoder(split, table).encode(TEXTS).tolist()
        made.enable_padding(pad_id=5)


def test_an_encoding_of_tiktoken():
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([byte]): byte for byte in range(256)}
    made = tiktoken.Encoding("bytes", pat_str=r".", mergeable_ranks=ranks, special_tokens={})
    table = np.random.default_rng(0).standard_normal((256, 4))
    found = fe.SentenceEncoder(made, table).encode(TEXTS)
    assert found.tolist() == fe.SentenceEncoder(lambda text: list(text.encode()), table).encode(TEXTS).tolist()


@pytest.mark.parametrize("made", [list, np.array], ids=["lists", "arrays"])
def test_an_encoding_that_is_there_already(made):
    """As transformers' BatchEncoding: a mapping, with padding that a mask leaves out."""
    table = np.random.default_rng(0).standard_normal((6, 4))
    encoder = fe.SentenceEncoder(lambda text: [int(part) for part in text.split()], table)
    expected = encoder.encode(["1 2 3", "4"]).tolist()
    ids, mask = made([[1, 2, 3], [4, 0, 0]]), made([[1, 1, 1], [1, 0, 0]])
    batch = collections.UserDict(input_ids=ids, attention_mask=mask, token_type_ids=ids)
    assert encoder.encode(batch).tolist() == expected
    assert encoder.encode({"input_ids": ids[1], "attention_mask": mask[1]}).tolist() == expected[1]
    assert encoder.encode({"input_ids": ids}).tolist() == encoder.encode(["1 2 3", "4 0 0"]).tolist()
    assert encoder.encode({"input_ids": ids[:0]}).shape == (0, 4)


def test_bad_arguments_are_named():
    table = np.ones((6, 4))
    encoder = fe.SentenceEncoder(split, table)
    for call, error, message in (
        (lambda: fe.SentenceEncoder("bert-base", table), TypeError, "tokenizer must be a function, .* got 'bert-base'"),
        (lambda: fe.SentenceEncoder(None, table), TypeError, "tokenizer must be a function, .* got None"),
        (lambda: fe.SentenceEncoder(split, np.ones(3)), ValueError, "table must have"),
        (lambda: fe.SentenceEncoder(split, fe.HashEmbedding(6, 4)), TypeError, "a layer of another kind, HashEmbedding"),
        (lambda: fe.SentenceEncoder(split, table, normalize="l2"), TypeError, "normalize"),
        (lambda: encoder.encode({"ids": [1]}), TypeError, "a mapping with input_ids, got one with ids"),
        (
            lambda: encoder.encode({"input_ids": [[1]], "attention_mask": [[1, 0]]}),
            ValueError,
            r"text 0 must have the shape of its ids",
        ),
        (lambda: encoder.encode({"input_ids": [[1]], "attention_mask": [[1], [1]]}), ValueError, "that of 2 texts, not 1"),
        (lambda: encoder.encode(3), TypeError, "texts must be strings, got 3"),
        (lambda: encoder.encode(b"cat"), TypeError, "texts must be strings, got b'cat'"),
        (lambda: encoder.encode(["cat", 3]), TypeError, r"texts must be strings, got 3 at position \(1,\)"),
        (lambda: encoder.encode(["cat", "dog"]), KeyError, "dog"),
        (lambda: fe.SentenceEncoder(len, table).encode(["", "cat"]), ValueError, "text 0 must have 1 axis"),
        (lambda: fe.SentenceEncoder(lambda t: [1, 7], table).encode("x"), IndexError, r"text 0: .*id 7 .*table of 6 rows"),
        (lambda: fe.SentenceEncoder(lambda t: [0.5], table).encode("x"), TypeError, "text 0: ids must be integers"),
    ):
        with pytest.raises(error, match=message):
            call()
    short = types.SimpleNamespace(encode_batch=lambda texts: [[1]])
    with pytest.raises(ValueError, match="tokenizer must return the ids of 2 texts, got those of 1"):
        fe.SentenceEncoder(short, table).encode(["a", "b"])


@pytest.fixture
def static_folder(tmp_path):
    """A function that writes a folder as model2vec does, with a tokenizer of words."""
    tokenizers = pytest.importorskip("tokenizers")

    def write(tensors, **config):
        words = {"[UNK]": 0, **{word: i + 1 for i, word in enumerate(WORDS)}}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        (tmp_path / "config.json").write_text(json.dumps(config))
        fe.checkpoint.save(tmp_path / "model.safetensors", tensors)
        return tmp_path

    return write


def test_a_folder_of_model2vec(static_folder):
    rng = np.random.default_rng(0)
    table, texts = rng.standard_normal((7, 8)).astype(np.float32), [*TEXTS, "the unknown cat", "unknown"]
    mapping, weights = rng.integers(0, 7, 7), rng.random(7).astype(np.float32)
    known = [[1 + i for w in text.split() if w in WORDS for i in [int(WORDS.ids(w))]] for text in texts]
    for tensors, rows in (
        ({"embeddings": table}, table),
        ({"embeddings": table, "mapping": mapping, "weights": weights}, table[mapping] * weights[:, None]),
    ):
        means = [rows[ids].mean(axis=0) if ids else np.zeros(8) for ids in known]
        folder = static_folder(tensors, normalize=False)
        np.testing.assert_allclose(fe.SentenceEncoder.from_folder(folder).encode(texts), means, rtol=1e-6, atol=1e-7)
        units = fe.SentenceEncoder.from_folder(folder, normalize=True).encode(texts)
        np.testing.assert_allclose(np.linalg.norm(units, axis=1), [float(bool(ids)) for ids in known], rtol=1e-6)
        folder = static_folder(tensors, max_length=4)  # tokens, and 12 characters: half of the tokens have at most 3
        short = fe.SentenceEncoder.from_folder(folder).encode("a on a on a on the mat")
        np.testing.assert_allclose(short, rows[[5, 4, 5, 4]].mean(axis=0), rtol=1e-6, atol=1e-7)


def test_model2vec_has_the_same_vectors(static_folder):
    model2vec = pytest.importorskip("model2vec")
    table = np.random.default_rng(0).standard_normal((7, 64)).astype(np.float32)
    for normalize in (True, False):
        folder = static_folder({"embeddings": table}, normalize=normalize)
        theirs = model2vec.StaticModel.from_pretrained(folder, force_download=False).encode([*TEXTS, "the unknown cat"])
        ours = fe.SentenceEncoder.from_folder(folder).encode([*TEXTS, "the unknown cat"])
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_folders_without_a_static_model(static_folder):
    table = np.zeros((7, 2), np.float32)
    for tensors, config, message in (
        ({"other": table}, {}, "it has no tensor embeddings, but other"),
        ({"embeddings": np.zeros(7, np.float32)}, {}, "embeddings must have 2 axes"),
        ({"embeddings": table, "mapping": np.array([7])}, {}, "id 7 at position .0,. is out of range"),
        ({"embeddings": table, "weights": np.zeros(3, np.float32)}, {}, "weights must have shape"),
        ({"embeddings": table}, {"max_length": -1}, "max_length must be"),
        ({"embeddings": table}, {"normalize": 3}, "normalize must be"),
    ):
        with pytest.raises(fe.checkpoint.CheckpointError, match=f"holds no static model: .*{message}"):
            fe.SentenceEncoder.from_folder(static_folder(tensors, **config))
    folder = static_folder({"embeddings": table})
    (folder / "config.json").write_text("[]")
    with pytest.raises(fe.checkpoint.CheckpointError, match=r"config.json must hold a mapping, got \[\]"):
        fe.SentenceEncoder.from_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        fe.SentenceEncoder.from_folder(folder)
