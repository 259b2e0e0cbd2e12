"""Word vectors by skip-gram with negative sampling, on the text of Python's own reference.

The number is how often two words that are used alike are nearer, by cosine, than the first of them
and a word drawn at random; guessing gives 0.5.
"""

import argparse
from collections import Counter

import numpy as np
from text import words

import fastembed as fe

WIDTH, WINDOW, N_NEGATIVE, BATCH = 64, 5, 5, 2048
ALIKE = (
    "int float", "list tuple", "true false", "try except", "left right", "import module", "class method", "function argument",
    "string bytes", "key value", "raise exception", "yield generator", "parent child", "addition subtraction", "if else",
    "async await", "global nonlocal", "and or", "integer integers", "argument arguments", "method methods", "object objects",
)  # fmt: skip


def pairs_of(ids, rng):
    """(centre, context) for all words and places in the window, shuffled."""
    pairs = [np.stack([ids[k:], ids[:-k]], 1) for k in range(1, WINDOW + 1)]
    both = np.concatenate([*pairs, *(pair[:, ::-1] for pair in pairs)])
    return both[rng.permutation(len(both))]


def similarity(layer, rng):
    """How often a pair of `ALIKE` is nearer than a pair drawn at random."""
    known = [pair for pair in map(str.split, ALIKE) if all(word in layer.vocabulary for word in pair)]
    units = layer.weight / np.linalg.norm(layer.weight, axis=1, keepdims=True)
    wins = []
    for one, other in known:
        a, b = layer.vocabulary.ids([one, other])
        drawn = rng.integers(0, len(units), 500)
        wins.append((units[a] @ units[b] > units[drawn] @ units[a]).mean())
    return float(np.mean(wins))


def main(epochs: float = 3.0) -> float:
    rng = np.random.default_rng(0)
    text = words()
    counts = Counter(text)
    names = [word for word, n in counts.most_common() if n >= 5]
    words_in = fe.Embedding(len(names), WIDTH, std=0.1, rng=1)
    words_out = fe.Embedding(len(names), WIDTH, std=0.1, rng=2)
    words_in.vocabulary = names
    frequency = np.array([counts[name] for name in names], float)
    ids = words_in.vocabulary.ids([word for word in text if word in words_in.vocabulary])
    ids = ids[rng.random(len(ids)) < np.sqrt(1e-3 * len(ids) / frequency)[ids]]  # fewer of the most frequent words
    chances = np.cumsum(frequency**0.75 / (frequency**0.75).sum())
    optimizer = fe.optim.Adam([words_in, words_out], lr=0.005)
    pairs = pairs_of(ids, rng)
    print(f"{len(text):,} words, {len(names):,} names, {len(pairs):,} pairs")
    n_steps = int(epochs * len(pairs) / BATCH)
    for k in range(n_steps):
        batch = pairs[np.arange(k * BATCH, (k + 1) * BATCH) % len(pairs)]
        negative = np.minimum(np.searchsorted(chances, rng.random((len(batch), N_NEGATIVE))), len(names) - 1)
        loss = fe.losses.skip_gram(words_in, words_out, batch[:, 0], batch[:, 1], negative, optimizer=optimizer)
        if k % 200 == 0:
            print(f"step {k:4d} of {n_steps}: loss {loss:.3f}")
    for word in ("float", "list", "exception"):
        near = words_in.nearest(words_in.vocabulary.ids(word), 6, exclude_queries=True)
        print(f"{word}:", *words_in.vocabulary.names(near.ids))
    found = similarity(words_in, rng)
    print(f"words that are used alike are nearer than drawn ones: {found:.0%} of the time")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=3.0)
    main(parser.parse_args().epochs)
