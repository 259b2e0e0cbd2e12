"""Arrays of other libraries, by whatever protocol they offer: the same results, without a copy."""

import array
import ctypes
from collections import UserList, deque

import ml_dtypes
import numpy as np
import pytest
from common import OnlyArray, OnlyDlpack, crc, same_bits

import fastembed as fe

pytestmark = pytest.mark.on_reference

IDS = [1, 2, 1]
WORDS = ["a", "bb", "a"]
TABLE = np.arange(12.0, dtype="f4").reshape(4, 3)


class OnlyToNumpy:
    def __init__(self, array):
        self.array = array

    def to_numpy(self):
        return self.array


class Encoding:
    """What the library tokenizers returns: ids beside other attributes."""

    def __init__(self, ids):
        self.ids = ids


class Tracked(OnlyArray):
    """A tensor in a graph of derivatives: it is an array once it is detached from that."""

    requires_grad = True

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("can't call numpy() on a tensor that requires grad")

    def detach(self):
        return self.array


def arrays_of_libraries():
    """(library, function of a list of numbers and a NumPy dtype) for those that are installed."""
    yield "OnlyArray", lambda numbers, dtype: OnlyArray(np.array(numbers, dtype))
    yield "OnlyDlpack", lambda numbers, dtype: OnlyDlpack(np.array(numbers, dtype))
    yield "OnlyToNumpy", lambda numbers, dtype: OnlyToNumpy(np.array(numbers, dtype))
    yield "Tracked", lambda numbers, dtype: Tracked(np.array(numbers, dtype))
    yield "memoryview", lambda numbers, dtype: memoryview(np.array(numbers, dtype))


LIBRARIES = dict(arrays_of_libraries())


def check_ids(ids):
    """A library's ids mean what the list does, for all that take ids."""
    layer, hashed = fe.Embedding.from_pretrained(TABLE), fe.HashEmbedding(5, 2, rng=0)
    pair, bag = fe.TokenPositionEmbedding.from_arrays(TABLE, TABLE), fe.EmbeddingBag.from_pretrained(TABLE)
    assert same_bits(layer(ids), TABLE[IDS])
    assert same_bits(fe.gather(TABLE, ids), TABLE[IDS])
    assert same_bits(pair(ids, ids), TABLE[IDS] + TABLE[IDS])
    assert same_bits(bag(ids, [0, 2]), bag(IDS, [0, 2]))
    assert same_bits(hashed(ids), hashed(IDS))
    layer.backward(np.ones((3, 3), "f4"), ids)
    assert layer.grads()["weight"].ids.tolist() == [1, 2]


def check_floats(table):
    """A library's table of TABLE's values is used where it is, and so are gradients and values."""
    layer = fe.Embedding.from_pretrained(table)
    assert same_bits(layer(IDS), TABLE[IDS].astype(layer.dtype))
    layer.backward(table, ids=[3, 2, 1, 0])
    assert same_bits(layer.grads()["weight"].rows, TABLE[::-1])
    into = np.zeros((4, 3))
    fe.scatter_add(into, [0, 1, 2, 3], table)
    assert np.array_equal(into, TABLE)
    layer.load_state_dict({"weight": table}) if layer.weight.flags.writeable else None
    return layer.weight


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("dtype", ["u1", "i4", "i8"])
def test_ids(name, dtype):
    check_ids(LIBRARIES[name](IDS, dtype))


def test_ids_that_are_memory_or_encodings():
    for ids in (array.array("h", IDS), bytearray(IDS), (ctypes.c_int * 3)(*IDS), Encoding(IDS), deque(IDS), UserList(IDS)):
        check_ids(ids)
    layer = fe.Embedding.from_pretrained(TABLE)
    assert same_bits(layer([Encoding([1, 2]), Encoding([3, 0])]), TABLE[[[1, 2], [3, 0]]])
    assert same_bits(layer(deque([Encoding([1, 2])])), TABLE[[[1, 2]]])
    with pytest.raises(TypeError, match="ids must be integers, got float64"):
        layer([Encoding([1.0])])
    with pytest.raises(ValueError, match="ids must have one shape"):
        layer([Encoding([1, 2]), Encoding([3])])
    with pytest.raises(TypeError, match="ids must be integers, got an array of bool"):
        layer((ctypes.c_bool * 2)(True, False))
    with pytest.raises(TypeError, match="ids must be integers, got booleans among them"):
        layer(Encoding([True, 1]))


@pytest.mark.parametrize("name", LIBRARIES)
def test_tables_are_not_copied(name):
    table = LIBRARIES[name](TABLE.tolist(), "f4")
    weight = check_floats(table)
    memory = table if name == "memoryview" else table.array
    assert np.shares_memory(weight, np.asarray(memory))


def test_words_for_hashes_and_vocabularies():
    layer, vocabulary = fe.HashEmbedding(5, 2, hash=crc, rng=0), fe.Vocabulary(["a", "bb"])
    kinds = [
        tuple(WORDS), np.array(WORDS), np.array(WORDS, object), np.array(WORDS, np.dtypes.StringDType()), deque(WORDS),
        UserList(WORDS),
        OnlyArray(np.array(WORDS, object)),
    ]  # fmt: skip
    for words in kinds:
        assert same_bits(layer(words), layer(WORDS))
        assert vocabulary.ids(words).tolist() == [0, 1, 0]
    assert layer(OnlyArray(np.array([], object))).shape == (0, 2)


def test_what_gives_no_array_is_named():
    class Elsewhere:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("the memory is on another device")

    layer = fe.Embedding.from_pretrained(TABLE)
    with pytest.raises(TypeError, match="ids cannot be read as an array, got a Elsewhere: the memory is on another device"):
        layer(Elsewhere())
    with pytest.raises(TypeError, match="dout cannot be read as an array, got a Elsewhere"):
        layer.backward(Elsewhere(), ids=[1])


def test_layers_and_gradients_are_arrays():
    layer = fe.Embedding.from_pretrained(TABLE.copy())
    assert np.asarray(layer) is layer.weight or np.shares_memory(np.asarray(layer), layer.weight)
    assert np.shares_memory(np.from_dlpack(layer), layer.weight)
    assert np.asarray(layer, "f8").dtype == np.float64
    opt = fe.optim.Adam(layer, lr=0.1)
    for ids in ([0], [1]):
        layer.backward(np.ones((1, 3), "f4"), ids=ids, optimizer=opt)
    assert same_bits(np.array(layer), layer.weight)  # up to date
    layer.backward(np.ones((2, 3), "f4"), ids=[2, 2])
    grad = layer.grads()["weight"]
    assert same_bits(np.asarray(grad), grad.to_dense())
    assert np.asarray(grad, "f8").dtype == np.float64
    with pytest.raises(ValueError, match="a RowGrad becomes a dense array only by a copy"):
        np.array(grad, copy=False)


# ---- the libraries themselves, where they are installed ----


def test_torch():
    torch = pytest.importorskip("torch")
    for dtype in (torch.int64, torch.int32, torch.uint8):
        check_ids(torch.tensor(IDS, dtype=dtype))
    parameter = torch.nn.Parameter(torch.tensor(TABLE))
    assert np.shares_memory(check_floats(parameter), parameter.detach().numpy())
    half = torch.nn.Parameter(torch.tensor(TABLE).to(torch.bfloat16))
    weight = check_floats(half)
    assert weight.dtype == ml_dtypes.bfloat16
    assert np.shares_memory(weight, half.detach().view(torch.int16).numpy())
    layer = fe.Embedding.from_pretrained(TABLE.copy())
    assert torch.from_dlpack(layer).data_ptr() == layer.weight.ctypes.data
    with pytest.raises(TypeError, match="ids cannot be read as an array, got a Tensor: can't convert meta device"):
        layer(torch.ones(2, dtype=torch.int64, device="meta"))


def test_jax():
    jnp = pytest.importorskip("jax.numpy")
    check_ids(jnp.array(IDS))
    table = jnp.array(TABLE)
    assert np.shares_memory(check_floats(table), np.asarray(table))
    assert check_floats(jnp.array(TABLE, jnp.bfloat16)).dtype == ml_dtypes.bfloat16


def test_pandas():
    pandas = pytest.importorskip("pandas")
    for ids in (pandas.Series(IDS), pandas.Index(IDS), pandas.Series(IDS, dtype="Int64")):
        check_ids(ids)
    layer, vocabulary = fe.HashEmbedding(5, 2, hash=crc, rng=0), fe.Vocabulary(["a", "bb"])
    for words in (pandas.Series(WORDS), pandas.Index(WORDS), pandas.Series(WORDS, dtype="category")):
        assert same_bits(layer(words), layer(WORDS))
        assert vocabulary.ids(words).tolist() == [0, 1, 0]
    check_floats(pandas.DataFrame(TABLE))


def test_polars():
    polars = pytest.importorskip("polars")
    check_ids(polars.Series(IDS))
    assert same_bits(
        fe.HashEmbedding(5, 2, hash=crc, rng=0)(polars.Series(WORDS)), fe.HashEmbedding(5, 2, hash=crc, rng=0)(WORDS)
    )
    assert fe.Vocabulary(["a", "bb"]).ids(polars.Series(WORDS)).tolist() == [0, 1, 0]


def test_arrow():
    arrow = pytest.importorskip("pyarrow")
    check_ids(arrow.array(IDS))
    check_ids(arrow.chunked_array([IDS[:1], IDS[1:]]))
    assert fe.Vocabulary(["a", "bb"]).ids(arrow.array(WORDS)).tolist() == [0, 1, 0]
    with pytest.raises(TypeError, match="ids must be integers, got an array of float64"):  # a null is NaN
        fe.gather(TABLE, arrow.array([1, None]))


def test_tokenizers():
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordLevel({"a": 1, "b": 2, "?": 0}, unk_token="?")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    check_ids(tokenizer.encode("a b a"))
    layer = fe.Embedding.from_pretrained(TABLE)
    assert same_bits(layer(tokenizer.encode_batch(["a b", "b ?"])), TABLE[[[1, 2], [2, 0]]])


def test_tiktoken():
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([k]): k for k in range(256)}
    encoding = tiktoken.Encoding("bytes", pat_str=r".", mergeable_ranks=ranks, special_tokens={})
    check_ids(encoding.encode("\x01\x02\x01"))
    check_ids(encoding.encode_to_numpy("\x01\x02\x01"))
