"""Vectors of texts: the means of rows by the reference, for the tokenisers of other libraries."""

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
    for tokenizer in (encoding, mapping, one, several, lambda text: split(text).tolist(), lambda text: tuple(split(text))):
        assert fe.SentenceEncoder(tokenizer, table).encode(TEXTS).tolist() == plain


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


def test_bad_arguments_are_named():
    table = np.ones((6, 4))
    encoder = fe.SentenceEncoder(split, table)
    for call, error, message in (
        (lambda: fe.SentenceEncoder("bert-base", table), TypeError, "tokenizer must be a function, .* got 'bert-base'"),
        (lambda: fe.SentenceEncoder(None, table), TypeError, "tokenizer must be a function, .* got None"),
        (lambda: fe.SentenceEncoder(split, np.ones(3)), ValueError, "table must have"),
        (lambda: fe.SentenceEncoder(split, fe.HashEmbedding(6, 4)), TypeError, "a layer of another kind, HashEmbedding"),
        (lambda: fe.SentenceEncoder(split, table, normalize="l2"), TypeError, "normalize"),
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
