"""Texts of real and of random tokens, cut in every way, hashed by all variants."""

import sysconfig
from itertools import pairwise
from pathlib import Path

import numpy as np

import fastembed as fe

from . import formulas

VOCAB = 65536
PAD, IMAGE, EOS = 2, 7, 8224  # EOS: two spaces, where a token is two bytes of text


def variants():
    """(name, hash, rows by the formulas) of each variant, at the sizes of published models."""
    token_map = np.random.default_rng(0).permutation(np.arange(VOCAB) % 50_000)
    sizes = {"vocab_sizes": [646_400] * 2, "n_heads": 8, "pad_id": PAD, "token_map": token_map, "seed": 3}
    demo = fe.NgramHash.engram(15, layers=[1, 15], **sizes)
    yield "engram", demo, lambda ids: formulas.engram(ids, token_map, demo.multipliers, demo.head_sizes.tolist(), PAD)

    config = {"engram_layer_ids": [1, 14], "engram_max_ngram_size": 4, "engram_n_heads": 8, "engram_vocab_size": 16_000_000}
    config |= {"engram_compressed_vocab_size": 50_000, "engram_pad_token_id": PAD, "image_token_id": IMAGE}
    config["engram_num_embeddings"] = [384_006_168, 384_016_682]
    flash = fe.NgramHash.from_config(config, 14, token_map=token_map)
    yield "v41", flash, lambda ids: formulas.v41(ids, token_map, flash.multipliers, flash.head_sizes.tolist(), PAD, IMAGE)

    ple = {"ngram_size": 3, "heads_per_ngram": 8, "ngram_vocab_size_base": 20_000_000, "vocab_size": VOCAB, "seed": 1234}
    qwen = fe.NgramHash.from_config(ple | {"eos_token_id": EOS, "ple_layer_ids": [2]}, 2)
    yield "ple", qwen, lambda ids: formulas.ple(ids, qwen.multipliers, qwen.head_sizes.tolist(), EOS)

    factors = np.random.default_rng(1).integers(2**62, 2**64, 4, np.uint64)
    wrapping = fe.NgramHash.ple(
        factors, [[1, 2**63 - 25 - 2**62], [2, 3], [2**32 - 5, 2**32 + 15]], eos_token_id=EOS, vocab_size=VOCAB
    )
    yield "wrapping", wrapping, lambda ids: formulas.ple(ids, factors, wrapping.head_sizes.tolist(), EOS)


def real_tokens(n):
    """Two bytes of the standard library's sources each, again and again."""
    text = b""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += path.read_bytes()
        if len(text) >= 2 * n:
            break
    return np.resize(np.frombuffer(text[: len(text) // 2 * 2], np.uint16), n)


def random_tokens(rng, n):
    """Uniform tokens, with many images and ends among them."""
    ids = rng.integers(0, VOCAB, n).astype(np.uint16)
    return np.where(rng.random(n) < 0.1, rng.choice(np.array([PAD, IMAGE, EOS], np.uint16), n), ids)


def in_parts(hash, ids, rng, length):
    """Rows of a text that comes in parts of random lengths around that one."""
    history, parts, first = None, [], 0
    while first < len(ids):
        part = ids[first : first + int(rng.integers(1, 2 * length))]
        parts.append(hash(part, history=history))
        history = hash.next_history(part, history=history)
        first += len(part)
    return np.concatenate(parts)


def in_batch(hash, ids, width):
    """The same as sequences of one batch, each with the end of the one before it as history."""
    n_rows = len(ids) // width
    batch = ids[: n_rows * width].reshape(n_rows, width)
    history = np.full((n_rows, hash.n - 1), hash.fill)
    for k in range(hash.n - 1):
        places = np.arange(n_rows) * width - (hash.n - 1) + k
        history[places >= 0, k] = ids[places[places >= 0]]
    return hash(batch, history=history).reshape(-1, hash.width)


def packed(hash, ids, rng, length):
    """(rows, ends) of the tokens as sequences of random lengths, end to end."""
    lengths = rng.integers(0, 2 * length, max(len(ids) // length, 1))
    ends = np.minimum(np.cumsum(lengths), len(ids))
    starts = np.concatenate([[0], ends[:-1], [len(ids)]])
    return hash(ids, cu_seqlens=starts), starts


def faults_of(hash, expected_of, ids, rng):
    """Ways of cutting the text whose rows differ from those of the formulas."""
    expected, few = expected_of(ids), ids[:500]
    got = {"whole": hash(ids), "in parts": in_parts(hash, ids, rng, 3000), "in small parts": in_parts(hash, few, rng, 4)}
    got |= {"token by token": in_parts(hash, few, rng, 1), "in a batch": in_batch(hash, ids, int(rng.integers(1, 400)))}
    faults = [how for how, rows in got.items() if not np.array_equal(rows, expected[: len(rows)])]
    for how, text, length in (("packed", ids, rng.choice([100, 5000])), ("packed in small parts", few, 2)):
        rows, starts = packed(hash, text, rng, int(length))
        alone = [expected_of(text[a:b]) for a, b in pairwise(starts) if b > a]
        faults += [] if np.array_equal(rows, np.concatenate(alone)) else [how]
    return faults


def run(n_ngrams, seed, n_tokens=200_000, show=print):
    """Check so many n-grams; the number of faults."""
    rng, cases, n_done, n_faults = np.random.default_rng(seed), list(variants()), 0, 0
    text = real_tokens(5 * n_tokens)
    while n_done < n_ngrams:
        for name, hash, expected_of in cases:
            for kind, ids in (
                ("real", np.roll(text, rng.integers(len(text)))[:n_tokens]),
                ("random", random_tokens(rng, n_tokens)),
            ):
                faults = faults_of(hash, expected_of, ids, rng)
                n_faults += len(faults)
                n_done += n_tokens * (hash.n - 1)
                if faults:
                    show(f"{name}, {kind} tokens: {', '.join(faults)}")
        show(f"{n_done:,} n-grams, {n_faults} faults", flush=True)
    return n_faults
