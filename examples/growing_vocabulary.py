"""A stream of words is learnt while it comes: the tables get a row for each new word.

Rows that are there keep their values and their optimiser's state. For each word the model tells the
next one from a word drawn at random. The number is its loss over the last tenth of the stream;
guessing gives 1.386.
"""

import argparse

import numpy as np
from text import words

import fastembed as fe

WIDTH, CHUNK = 32, 500


def add_new(layers, chunk):
    """Give every layer a row for each word that it has not."""
    new = [word for word in dict.fromkeys(chunk) if word not in layers[0].vocabulary]
    rng = np.random.default_rng(len(layers[0].vocabulary))
    for layer in layers:
        layer.add_tokens(new, init=rng.normal(0, 0.1, (len(new), WIDTH)))
    return len(new)


def main(n_words: int = 200_000) -> float:
    stream = words()[:n_words]
    first, second = (fe.Embedding(0, WIDTH) for _ in range(2))
    first.vocabulary = second.vocabulary = []
    optimizer = fe.optim.Adam([first, second], lr=0.01)
    rng, losses, n_added = np.random.default_rng(0), [], 0
    for start in range(0, len(stream) - CHUNK, CHUNK):
        chunk = stream[start : start + CHUNK + 1]
        n_added += add_new((first, second), chunk)
        ids = first.vocabulary.ids(chunk)
        drawn = ids[rng.permutation(CHUNK)]
        x, y = first(ids[:-1]), second(np.stack([ids[1:], drawn], axis=1))
        probability = 1 / (1 + np.exp(-np.einsum("nd,nkd->nk", x, y)))
        losses.append(-np.log(probability[:, 0]).mean() - np.log(1 - probability[:, 1]).mean())
        error = (probability - [1, 0]).astype(np.float32)[:, :, None]
        optimizer.zero_grad()
        first.backward((error * y).sum(axis=1))
        second.backward(error * x[:, None])
        optimizer.step()
        if start % (CHUNK * 50) == 0:
            print(f"after {start:7,} words: {len(first.vocabulary):6,} rows, loss {losses[-1]:.3f}")
    loss = float(np.mean(losses[-len(losses) // 10 :]))
    assert n_added == len(first.vocabulary) == len(first.weight)
    print(f"{n_added:,} rows were added; loss over the last tenth: {loss:.3f}")
    return loss


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-words", type=int, default=200_000)
    main(parser.parse_args().n_words)
