"""Rows of n-grams: the reference's, published numbers, edges of remainders, what is refused."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from common import ID_DTYPES, READ_LAYOUTS, examples, needs_c, outcome, relaid
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import reference
from fastembed._kernels import backend
from fastembed.functional.ngram import layouts

pytestmark = pytest.mark.on_reference

VOCAB = 30
SMALL = {"multipliers": [3, 5, 9], "head_sizes": [[7, 11], [13, 17]], "fill": 0}

# The config.json of DeepSeek-V4.1-Flash, of Qwen3.8-Flash-Next, and the metadata of its GGUF file.
V41 = {"engram_layer_ids": [1, 14], "engram_num_embeddings": [384006168, 384016682], "engram_max_ngram_size": 4,
       "engram_vocab_size": 16000000, "engram_n_heads": 8, "engram_head_dim": 256, "engram_pad_token_id": 2,
       "engram_compressed_vocab_size": 99092}  # fmt: skip
PLE = {"ngram_size": 3, "heads_per_ngram": 8, "ngram_vocab_size_base": 20_000_000, "vocab_size": 248320, "seed": 1234,
       "eos_token_id": [248044], "ple_layer_ids": [2]}  # fmt: skip
PLE_MULTIPLIERS = [23703573157769, 20109073645365, 8052911324071]
PLE_OFFSETS = [0, 20000003, 40000026, 60000059, 80000106, 100000165, 120000228, 140000297, 160000374, 180000455, 200000548,
               220000655, 240000802, 260000955, 280001114, 300001275]  # fmt: skip


def drawn_hash(rng):
    """The arguments of a small hash of any kind."""
    n, n_heads, unsigned = int(rng.integers(2, 6)), int(rng.integers(1, 4)), bool(rng.random() < 0.5)
    largest = 2**64 if unsigned else (2**63 - 1) // VOCAB
    multipliers = [
        int(rng.integers(0, 9)) if rng.random() < 0.3 else int(rng.integers(0, largest, dtype=np.uint64)) for _ in range(n)
    ]
    head_sizes = rng.choice([1, 2, 7, 2**31 - 1, 2**32 + 15, 2**40], (n - 1, n_heads)).tolist()
    options = {"fill": int(rng.integers(VOCAB)), "unsigned": unsigned, "cut_own": bool(rng.random() < 0.5)}
    options["cut"] = [None, 3, [3, 4]][rng.integers(3)]
    if rng.random() < 0.5:
        options["token_map"] = rng.integers(0, VOCAB, VOCAB).tolist()
    else:
        options["vocab_size"] = VOCAB
    if rng.random() < 0.5:
        options["offsets"] = rng.integers(0, 2**50, (n - 1, n_heads)).tolist()
    return (multipliers, head_sizes), options


@examples(150)
@given(st.integers(0, 2**32 - 1))
def test_rows_are_the_reference(seed):
    rng = np.random.default_rng(seed)
    arguments, options = drawn_hash(rng)
    hash, like = fe.NgramHash(*arguments, **options), reference.NgramHash(*arguments, **options)
    for shape in ((9,), (2, 5), (2, 1, 3), (0,), (3, 0), (0, 2)):
        ids = rng.integers(0, VOCAB, shape)
        history = rng.integers(0, VOCAB, (*shape[:-1], hash.n - 1)) if rng.random() < 0.5 else None
        expected = like(ids.tolist(), history=None if history is None else history.tolist()) if ids.size else []
        got = hash(ids, history=history)
        assert got.dtype == np.int64
        assert got.shape == (*shape, hash.width)
        assert got.tolist() == np.reshape(np.array(expected, np.int64), got.shape).tolist()
        assert got.size == 0 or got.max() < hash.n_rows
    lengths = rng.integers(0, 5, 4)
    ids, history = rng.integers(0, VOCAB, lengths.sum()), rng.integers(0, VOCAB, (4, hash.n - 1))
    for before in (None, history.tolist()):
        expected = like(ids.tolist(), lengths=lengths.tolist(), history=before) if ids.size else []
        assert hash(ids, lengths=lengths, history=before).tolist() == expected
        assert hash(ids, cu_seqlens=[0, *np.cumsum(lengths)], history=before).tolist() == expected


@examples(60)
@given(st.integers(0, 2**32 - 1))
def test_a_text_in_parts_has_the_rows_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    arguments, options = drawn_hash(rng)
    hash, ids = fe.NgramHash(*arguments, **options), rng.integers(0, VOCAB, (3, 20))
    whole, history, parts, first = hash(ids), None, [], 0
    while first < 20:
        part = ids[:, first : first + int(rng.integers(0, 4))]
        parts.append(hash(part, history=history))
        history = hash.next_history(part, history=history)
        first += part.shape[1]
    assert np.array_equal(np.concatenate(parts, 1), whole)
    packed, history, parts = ids.reshape(-1), None, []
    for cut in np.split(np.arange(20), [3, 4, 11]):
        part = ids[:, cut].reshape(-1)
        parts.append(hash(part, lengths=[len(cut)] * 3, history=history).reshape(3, len(cut), -1))
        history = hash.next_history(part, lengths=[len(cut)] * 3, history=history)
    assert np.array_equal(np.concatenate(parts, 1), whole)
    assert np.array_equal(hash(packed, lengths=[20] * 3), whole.reshape(60, -1))


@pytest.mark.parametrize("dtype", ID_DTYPES)
@pytest.mark.parametrize("layout", READ_LAYOUTS)
def test_tokens_of_every_type_and_layout(dtype, layout):
    hash, like = fe.NgramHash(**SMALL, vocab_size=100), reference.NgramHash(**SMALL, vocab_size=100)
    ids = np.random.default_rng(0).integers(0, 100, (3, 4)).astype(dtype)
    history = np.array([[1, 2], [3, 4], [5, 6]], dtype)
    got = hash(relaid(ids, layout), history=relaid(history, layout))
    assert got.tolist() == like(ids.tolist(), history=history.tolist())


def edges():
    """Sizes from 1 to 2**63 - 1, at powers of two and among them."""
    powers = [2**k + d for k in range(1, 64) for d in (-1, 0, 1)]
    sizes = {*range(1, 40), *powers, 10**9 + 7, 10**18 + 9, 2**61 - 1, 2**63 - 25, 3 * 2**61, 16_000_057, 20_000_003}
    return sorted(size for size in sizes if 1 <= size < 2**63)


def test_remainders_are_exact_at_every_edge():
    """A quotient's estimate may be 1 too low; where that shows is next to multiples of the size."""
    rng = np.random.default_rng(0)
    n_random = 20 if backend.name == "c" else 1
    for size in edges():
        most = (2**64 - 1) // size
        quotients = {
            0,
            1,
            2,
            most // 2,
            most - 1,
            most,
            *(int(rng.integers(0, most, endpoint=True, dtype=np.uint64)) for _ in range(n_random)),
        }
        values = {q * size + r for q in quotients for r in (-2, -1, 0, 1, 2)} | {2**k + d for k in range(64) for d in (-1, 0, 1)}
        values = sorted(x for x in values | {2**64 - 1, 2**64 - 2} if 0 <= x < 2**64)
        heads = np.array([[size, (2**64 - 1) // size, 0]], np.uint64)
        rows = backend.kernels.ngram_rows(np.array(values, np.uint64)[:, None], heads)
        assert rows[:, 0].tolist() == [x % size for x in values], size


@needs_c
def test_remainders_are_exact_everywhere_else():
    rng = np.random.default_rng(0)
    sizes = np.concatenate(
        [np.arange(1, 600, dtype=np.uint64), rng.integers(1, 2**63, 400, np.uint64) >> rng.integers(0, 62, 400, np.uint64)]
    )
    sizes = np.maximum(sizes, np.uint64(1))
    heads = np.stack([sizes, np.uint64(2**64 - 1) // sizes, np.zeros_like(sizes)], 1)
    x = rng.integers(0, 2**64, 3000, np.uint64, endpoint=False) >> rng.integers(0, 64, 3000, np.uint64)
    assert np.array_equal(backend.kernels.ngram_rows(x[:, None], heads), (x[:, None] % sizes).astype(np.int64))


@needs_c
@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_threads_and_blocks_change_nothing(n_threads):
    rng = np.random.default_rng(0)
    hash = fe.NgramHash(rng.integers(0, 2**50, 5), rng.integers(1, 2**40, (4, 3)), vocab_size=50, fill=7, cut=3)
    ids = rng.integers(0, 50, 30_001)
    starts = np.sort(np.concatenate([[0, len(ids)], rng.integers(0, len(ids), 40), rng.integers(960, 970, 20)]))
    with fe.threads(n_threads):
        got = hash(ids, cu_seqlens=starts)
        assert np.array_equal(got, np.concatenate([hash(ids[a:b]) for a, b in pairwise(starts)]))
        ids[20_000], ids[29_000] = 50, 77
        with pytest.raises(
            IndexError, match=r"^token id 50 at position \(20000,\) is out of range for a vocabulary of 50 tokens$"
        ):
            hash(ids)


# ---- published numbers ----


def test_qwens_numbers():
    hash = fe.NgramHash.from_config({"text_config": PLE}, 2)
    assert hash.multipliers.tolist() == PLE_MULTIPLIERS
    assert hash.offsets.reshape(-1).tolist() == PLE_OFFSETS
    assert hash.n_rows == 320_001_446
    metadata = {
        "general.architecture": "qwen4exp", "qwen4exp.ple.layers": [1], "qwen4exp.ple.eos_token_id": 248044,
        "qwen4exp.ple.layer_multipliers": np.array(PLE_MULTIPLIERS, np.uint64), "qwen4exp.ple.head_offsets": PLE_OFFSETS,
        "qwen4exp.ple.head_vocab_sizes": hash.head_sizes.reshape(-1),
    }  # fmt: skip
    ids = np.random.default_rng(0).choice([5, 77, 248044, 248319], (2, 50))
    given = fe.NgramHash.ple(PLE_MULTIPLIERS, hash.head_sizes, eos_token_id=248044)
    for other in (fe.NgramHash.from_gguf(metadata), fe.NgramHash.from_gguf(metadata, 1), given):
        assert np.array_equal(other(ids), hash(ids))


def test_deepseeks_numbers():
    token_map = np.arange(129280) % 99092
    hashes = [fe.NgramHash.from_config(V41 | {"image_token_id": 9}, layer, token_map=token_map) for layer in (1, 14)]
    assert [hash.n_rows for hash in hashes] == V41["engram_num_embeddings"]
    primes = np.concatenate([hash.head_sizes.reshape(-1) for hash in hashes])
    assert len(set(primes.tolist())) == 48
    assert min(primes) == 16_000_057
    metadata = {"general.architecture": "deepseek41"} | {f"deepseek41.engram.{name}": value for name, value in {
        "layer_ids": [1, 14], "pad_id": 2, "token_map": token_map, "primes": primes,
        "multipliers": np.concatenate([hash.multipliers for hash in hashes]),
    }.items()}  # fmt: skip
    ids = np.random.default_rng(0).choice([5, 9, 77, 129279], (2, 50))
    for layer, hash in zip((1, 14), hashes, strict=True):
        assert np.array_equal(fe.NgramHash.from_gguf(metadata, layer, cut=9)(ids), hash(ids))
        options = {"token_map": token_map, "pad_id": 2, "cut": 9, "cut_own": True}
        same = fe.NgramHash.engram(layer, layers=[1, 14], vocab_sizes=[16000000] * 3, n_heads=8, **options)
        assert np.array_equal(same(ids), hash(ids))


def test_primes():
    sieve = np.ones(20_000, bool)
    sieve[:2] = False
    for k in range(2, 142):
        sieve[k * k :: k] = False
    assert [n for n in range(20_000) if layouts.is_prime(n)] == np.flatnonzero(sieve).tolist()
    # Strong pseudoprimes to the first bases (Jaeschke, 1993), a Carmichael number, large primes.
    composite = (561, 2047, 3215031751, 3825123056546413051, 2**61 - 3, (2**31 - 1) ** 2)
    assert not any(layouts.is_prime(n) for n in composite)
    assert all(layouts.is_prime(n) for n in (2**31 - 1, 2**61 - 1, 2**63 - 25, 2**64 - 59, 10**18 + 9))


# ---- what is refused ----


@pytest.mark.parametrize(
    ("ids", "given"),
    [
        ([1, 100], {}), ([[1, 2], [3, -1]], {}), ([1, 2**64], {}), ([5], {"history": [3, 100]}), ([100], {"history": [-1, 100]}),
        ([5], {"history": [3, 2**70]}), ([1, 2], {"history": [[3, 100]], "lengths": [2]}),
    ],
)  # fmt: skip
def test_tokens_out_of_range_are_named_as_by_the_reference(ids, given):
    hash, like = (of(**SMALL, vocab_size=100) for of in (fe.NgramHash, reference.NgramHash))
    kind, *error = outcome(hash, ids, **given)
    assert [kind, *error] == list(outcome(like, ids, **given))
    assert error[0] is IndexError
    assert "out of range for a vocabulary of 100 tokens" in error[1]


def test_products_that_would_overflow_are_refused():
    assert fe.NgramHash([2**63 - 1, 3], [[5]], vocab_size=2, fill=0)([1, 0]).shape == (2, 1)
    with pytest.raises(ValueError, match=r"multipliers must be at most 4611686018427387903, .* at most 2, .* at position 1"):
        fe.NgramHash([3, 2**62], [[5]], vocab_size=3, fill=0)
    with pytest.raises(ValueError, match=r"at most 99, .*got 9223372036854775807 at position 0"):
        fe.NgramHash([2**63 - 1, 3], [[5]], token_map=[1, 99], fill=0)
    largest = fe.NgramHash([2**62, 3], [[5]], fill=0)
    assert largest.n_tokens == 2
    with pytest.raises(IndexError, match=r"token id 2 at position .* vocabulary of 2 tokens"):
        largest([2])
    assert fe.NgramHash([2**64 - 1, 3], [[5]], fill=0, unsigned=True).n_tokens == 2**63 - 1


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"head_sizes": [[7, 0], [13, 17]]}, ValueError, r"head_sizes must be from 1 to 2..63 - 1, got 0 at"),
        ({"head_sizes": [[7, 2**63], [13, 17]]}, ValueError, "head_sizes must be from 1 to .*, got 9223372036854775808"),
        ({"head_sizes": [[7, 9]]}, ValueError, r"head_sizes must have shape \(2, heads\) for 3 multipliers, got \(1, 2\)"),
        ({"head_sizes": [[], []]}, ValueError, r"head_sizes must have shape \(2, heads\)"),
        ({"head_sizes": [7, 9]}, ValueError, r"head_sizes must have 2 axes, got shape \(2,\)"),
        ({"head_sizes": [[7.5], [3]]}, TypeError, "head_sizes must be integers"),
        ({"head_sizes": [[2**62, 2**62], [3, 4]]}, ValueError, "offsets and head_sizes must add up to at most"),
        ({"offsets": [[0, 1]]}, ValueError, r"offsets must have the shape of head_sizes, \(2, 2\), got \(1, 2\)"),
        ({"offsets": [[0, 1], [2, -3]]}, ValueError, r"offsets must be from 0 .*, got -3 at position \(1, 1\)"),
        ({"multipliers": [3]}, ValueError, "multipliers must be 2 to 64 numbers, got 1"),
        ({"multipliers": [3] * 65}, ValueError, "multipliers must be 2 to 64 numbers, got 65"),
        ({"multipliers": [3, -5, 9]}, ValueError, r"multipliers must be from 0 .*, got -5 at position \(1,\)"),
        ({"multipliers": [3, 2**63, 9]}, ValueError, "multipliers must be from 0 to .*, got 9223372036854775808"),
        ({"multipliers": [3, 2**64, 9], "unsigned": True}, ValueError, "multipliers must be from 0 to 2..64 - 1"),
        ({"token_map": [0, -1], "vocab_size": None}, ValueError, "token_map must be from 0 .*, got -1 at position 1"),
        ({"token_map": [], "vocab_size": None}, ValueError, "token_map must have 1 axis and a number for each token"),
        ({"token_map": [0, 1]}, ValueError, "token_map and vocab_size exclude each other"),
        ({"fill": 100}, ValueError, "fill must be a token from 0 to 99, got 100"),
        ({"fill": None}, TypeError, "fill must be an integer, got None"),
        ({"cut": [3, 100]}, ValueError, r"cut must be from 0 to 99, got 100 at position \(1,\)"),
        ({"cut_own": 1}, TypeError, "cut_own must be True or False, got 1"),
        ({"unsigned": None}, TypeError, "unsigned must be True or False"),
        ({"vocab_size": -1}, ValueError, "vocab_size must be from 0"),
    ],
)  # fmt: skip
def test_arguments_that_are_refused(changed, error, text):
    with pytest.raises(error, match=text):
        fe.NgramHash(**(SMALL | {"vocab_size": 100} | changed))


def test_a_hash_without_heads_is_refused():
    with pytest.raises(ValueError, match=r"^n_heads must be at least 1, got 0$"):
        fe.NgramHash.engram(0, layers=[0], vocab_sizes=[1000], n_heads=0, pad_id=0, vocab_size=8)


@pytest.mark.parametrize(
    ("ids", "given", "error", "text"),
    [
        (3, {}, ValueError, "ids must have at least 1 axis"),
        ([1.5], {}, TypeError, "token ids must be integers"),
        ([True], {}, TypeError, "token ids must be integers"),
        ([1, 2], {"history": [1]}, ValueError, r"history must have shape \(2,\), .*, got \(1,\)"),
        ([[1, 2]], {"history": [1, 2]}, ValueError, r"history must have shape \(1, 2\)"),
        ([1, 2], {"history": [1, 2], "lengths": [2]}, ValueError, r"history must have shape \(1, 2\)"),
        ([1, 2], {"lengths": [2], "cu_seqlens": [0, 2]}, ValueError, "lengths and cu_seqlens exclude each other"),
        ([[1, 2]], {"lengths": [2]}, ValueError, r"lengths and cu_seqlens require ids of 1 axis, .*; got shape \(1, 2\)"),
        ([1, 2], {"lengths": [1]}, ValueError, "the lengths must cover the 2 ids, from 0 to 2; they go from 0 to 1"),
        ([1, 2], {"lengths": [3]}, ValueError, "lengths must be from 0 to 2, the number of ids; got 3 at position 0"),
        ([1, 2], {"lengths": [-1, 3]}, ValueError, "lengths must be from 0 to 2, the number of ids; got -1 at position 0"),
        ([1, 2], {"lengths": [[2]]}, ValueError, r"lengths must have 1 axis, got shape \(1, 1\)"),
        ([1, 2], {"cu_seqlens": [0, 2, 1, 2]}, ValueError, "cu_seqlens must not decrease, got 1 at position 2 after 2"),
        ([1, 2], {"cu_seqlens": [1, 2]}, ValueError, "the cu_seqlens must cover the 2 ids"),
        ([1, 2], {"cu_seqlens": []}, ValueError, "the cu_seqlens must cover the 2 ids, .*; they go none"),
    ],
)  # fmt: skip
def test_calls_that_are_refused(ids, given, error, text):
    hash = fe.NgramHash(**SMALL, vocab_size=100)
    for call in (hash, hash.mix, hash.next_history):
        with pytest.raises(error, match=text):
            call(ids, **given)


@pytest.mark.parametrize(
    ("config", "layer", "token_map", "error", "text"),
    [
        ({}, 1, None, KeyError, "neither engram_layer_ids nor ple_layer_ids"),
        (PLE, 3, None, ValueError, "layer must be one of 2, the ple_layer_ids; got 3"),
        (PLE, 2, [0], ValueError, "token_map is not for a config with ple_layer_ids"),
        ({**PLE, "seed": None}, 2, None, KeyError, "there is no seed"),
        ({**PLE, "ngram_size": 1}, 2, None, ValueError, "ngram_size must be at least 2, got 1"),
        ({**V41, "engram_vocab_size": [1000] * 3}, 1, [0], TypeError, "engram_vocab_size must be an integer"),
        (V41, 1, None, ValueError, "token_map must be given"),
        (V41, 1, [99092], ValueError, "token_map must be below engram_compressed_vocab_size, 99092; its largest is 99092"),
        (
            V41 | {"engram_num_embeddings": [1, 2]},
            1,
            [0, 1, 2],
            ValueError,
            "engram_num_embeddings must be 384006168 for layer 1",
        ),
    ],
)
def test_configs_that_are_refused(config, layer, token_map, error, text):
    with pytest.raises(error, match=text):
        fe.NgramHash.from_config(config, layer, token_map=token_map)


@pytest.mark.parametrize(
    ("metadata", "layer", "error", "text"),
    [
        ({}, None, KeyError, "general.architecture"),
        ({"x.ple.eos_token_id": 0}, None, KeyError, "neither x.engram.layer_ids nor x.ple.layers"),
        ({"x.ple.layers": [1, 2]}, None, ValueError, "layer must be given, one of 1, 2"),
        ({"x.ple.layers": [1]}, None, KeyError, "x.ple.layer_multipliers or x.ple.multipliers"),
        (
            {"x.ple.layers": [1], "x.ple.layer_multipliers": [3, 5, 7], "x.ple.head_vocab_sizes": [3]},
            1,
            ValueError,
            "as many heads",
        ),
        ({"x.ple.layers": [1, 2], "x.ple.layer_multipliers": [3, 5, 7]}, 1, ValueError, "for each of 2 layers, got 3"),
    ],
)
def test_metadata_that_are_refused(metadata, layer, error, text):
    with pytest.raises(error, match=text):
        fe.NgramHash.from_gguf(({"general.architecture": "x"} if metadata else {}) | metadata, layer)


def test_a_hash_of_ple_takes_no_cut():
    metadata = {"general.architecture": "x", "x.ple.layers": [1], "x.ple.multipliers": [3, 5], "x.ple.primes": [7]}
    with pytest.raises(ValueError, match="cut is not for metadata of PLE"):
        fe.NgramHash.from_gguf(metadata | {"x.ple.eos_token_id": 0}, cut=3)
    with pytest.raises(KeyError, match=r"there is no x\.ple\.eos_token_id"):
        fe.NgramHash.from_gguf(metadata)


def test_what_a_hash_is_cannot_be_changed_from_outside():
    token_map = np.arange(50)
    hash = fe.NgramHash(**SMALL, token_map=token_map)
    before = hash([1, 2, 3])
    token_map[:] = 7
    hash.multipliers[:], hash.head_sizes[:], hash.offsets[:] = 1, 1, 1
    assert np.array_equal(hash([1, 2, 3]), before)
    assert (hash.n, hash.n_heads, hash.width, hash.n_rows, hash.n_tokens, hash.fill) == (3, 2, 4, 48, 50, 0)
    assert repr(hash) == "NgramHash(n=3, n_heads=2, n_rows=48, n_tokens=50)"


def test_hashes_are_equal_by_their_numbers():
    arguments = {"multipliers": [3, 5, 9], "head_sizes": [[7, 11], [13, 17]], "fill": 0, "token_map": [4, 0, 2], "cut": [1, 2]}
    hash = fe.NgramHash(**arguments)
    for same in (pickle.loads(pickle.dumps(hash)), fe.NgramHash(**arguments | {"cut": [2, 1, 2]})):
        assert (same == hash, len({same, hash}), same.digest == hash.digest) == (True, 1, True)
    changes = [
        {"multipliers": [3, 5, 8]}, {"head_sizes": [[7, 11], [13, 19]]}, {"offsets": [[0, 7], [18, 32]]}, {"fill": 1},
        {"token_map": [4, 0, 1]}, {"token_map": None, "vocab_size": 3}, {"token_map": None}, {"cut": 1}, {"cut_own": True},
    ]  # fmt: skip
    others = [fe.NgramHash(**arguments | changed) for changed in changes]
    assert len({hash, *others}) == len(changes) + 1
    assert hash != hash.digest


def test_the_digest_is_the_same_on_every_machine():
    """Files hold it."""
    assert fe.NgramHash(**SMALL, vocab_size=9).digest == "2b6a92c802cc23e5df19f5432105ed444735937a7c61b6ba32fb8a63b140208c"
