"""An Engram module in NumPy around fastembed's n-gram table, and what such a table brings.

python examples/ngram_engram.py [--steps 300]

The module (arXiv 2601.07372, section 2) adds to each hidden vector what the last tokens recall:
rows of a hashed n-gram table, projected, gated by how well they fit the hidden vector, and smoothed
by a short causal convolution. The second part trains a small table on the names that the package
ships: the next letter from the last letter alone, and with the n-grams that end at it.
"""

import argparse
from importlib import resources

import numpy as np

import fastembed as fe

BOS = 26  # before and after each name; letters are 0 to 25
VOCAB = 27
KERNEL = 4  # taps of the convolution, N tokens apart


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rms_norm(x, eps=1e-6):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


class Engram:
    """The module of one layer; hidden vectors of width C."""

    def __init__(self, memory, n_hidden, rng):
        n_memory = memory.hash.width * memory.embedding_dim
        self.memory = memory
        self.to_key = rng.standard_normal((n_memory, n_hidden), "f4") / np.sqrt(n_memory)
        self.to_value = rng.standard_normal((n_memory, n_hidden), "f4") / np.sqrt(n_memory)
        self.taps = rng.standard_normal((KERNEL, n_hidden), "f4") / KERNEL  # the last one is the present token's

    def gated(self, hidden, recalled):
        """The value of what is recalled, times a gate: how well its key fits the hidden vector."""
        key, value = recalled @ self.to_key, recalled @ self.to_value
        fit = (rms_norm(hidden) * rms_norm(key)).sum(-1, keepdims=True) / np.sqrt(hidden.shape[-1])
        return sigmoid(np.copysign(np.sqrt(np.maximum(np.abs(fit), 1e-6)), fit)) * value

    def __call__(self, hidden, ids):
        """Hidden vectors (B, T, C) of tokens (B, T), with what is recalled added."""
        value = self.gated(hidden, self.memory(ids))
        dilation, n_tokens = self.memory.hash.n, ids.shape[1]
        normed = np.pad(rms_norm(value), ((0, 0), ((KERNEL - 1) * dilation, 0), (0, 0)))
        smooth = sum(self.taps[k] * normed[:, k * dilation : k * dilation + n_tokens] for k in range(KERNEL))
        return hidden + value + smooth * sigmoid(smooth)


def plain_engram(module, hidden, ids):
    """The same, token by token in loops, with Python's integers for the rows."""
    hash, weight, result = module.memory.hash, module.memory.weight, hidden.copy()
    sizes, offsets = hash.head_sizes.tolist(), hash.offsets.tolist()
    for b, sequence in enumerate(ids.tolist()):
        values = []
        for t in range(len(sequence)):
            rows, mix = [], sequence[t] * int(hash.multipliers[0])
            for k in range(1, hash.n):
                mix ^= (sequence[t - k] if t >= k else hash.fill) * int(hash.multipliers[k])
                rows += [mix % size + offset for size, offset in zip(sizes[k - 1], offsets[k - 1], strict=True)]
            values.append(module.gated(hidden[b, t], np.concatenate([weight[row] for row in rows])))
            smooth = np.zeros_like(values[t])
            for k in range(KERNEL):
                place = t - (KERNEL - 1 - k) * hash.n
                if place >= 0:
                    smooth += module.taps[k] * rms_norm(values[place])
            result[b, t] += values[t] + smooth * sigmoid(smooth)
    return result


def largest_difference(seed=0):
    """Between the module and the plain one, on random tokens."""
    rng = np.random.default_rng(seed)
    hash = fe.NgramHash.engram(1, layers=[1], vocab_sizes=[500, 500], n_heads=4, pad_id=0, vocab_size=1000)
    module = Engram(fe.NgramEmbedding.random(hash, 8, rng=seed), 32, rng)
    ids, hidden = rng.integers(0, 1000, (2, 20)), rng.standard_normal((2, 20, 32), "f4")
    return float(np.abs(module(hidden, ids) - plain_engram(module, hidden, ids)).max())


# ---- what a table brings ----


def load_names():
    """Each name as its letters' numbers behind BOS."""
    text = resources.files("fastembed.data").joinpath("names.txt").read_text()
    return [np.array([BOS, *(ord(letter) - 97 for letter in name)]) for name in text.split()]


class NextLetter:
    """Scores of the next letter: a row of the last one times a matrix, with n-grams or without."""

    def __init__(self, with_ngrams, rng):
        hash = fe.NgramHash.engram(0, layers=[0], vocab_sizes=[2000, 8000, 8000], n_heads=2, pad_id=BOS, vocab_size=VOCAB)
        n_columns = 8
        self.last = fe.Embedding(VOCAB, hash.width * n_columns, std=0.1, rng=rng)
        self.memory = fe.NgramEmbedding.random(hash, n_columns, std=0.01, rng=rng) if with_ngrams else None
        self.out = fe.Parameter(rng.standard_normal((hash.width * n_columns, VOCAB)).astype("f4") * 0.1)
        self.layers = [self.last] + [self.memory] * with_ngrams
        self.rows = fe.optim.SparseAdam(self.layers, lr=0.01)
        self.dense = fe.optim.Adam([self.out], lr=0.01)

    def loss(self, names, train=False):
        """The mean of -log p of each next letter; a step of the optimisers, if asked for."""
        ids, lengths = np.concatenate(names), [len(name) for name in names]
        targets = np.concatenate([np.append(name[1:], BOS) for name in names])
        x = self.last(ids)
        if self.memory is not None:
            x = x + self.memory(ids, lengths=lengths)
        scores = x @ self.out.data
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        places = np.arange(len(ids))
        loss = float(-np.log(p[places, targets]).mean())
        if train:
            p[places, targets] -= 1
            p /= len(ids)
            self.out.grad, dx = x.T @ p, p @ self.out.data.T
            for layer in self.layers:
                layer.backward(dx)
            for optimizer in (self.rows, self.dense):
                optimizer.step()
                optimizer.zero_grad()
        return loss


def losses(n_steps, n_batch=256, seed=0):
    """The loss of names that were held back, without and with n-grams."""
    rng, names, found = np.random.default_rng(seed), load_names(), {}
    order = rng.permutation(len(names))
    held, rest = [names[i] for i in order[:2000]], [names[i] for i in order[2000:]]
    for with_ngrams in (False, True):
        model = NextLetter(with_ngrams, np.random.default_rng(seed))
        for step in range(n_steps):
            first = step * n_batch % (len(rest) - n_batch)
            model.loss(rest[first : first + n_batch], train=True)
        for layer in model.layers:
            layer.eval()
        found[with_ngrams] = model.loss(held)
    return found[False], found[True]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    n_steps = parser.parse_args().steps
    print(f"the module against the plain one: largest difference {largest_difference():.1e}")
    without, with_ngrams = losses(n_steps)
    print(f"next letter of names, {n_steps} steps: loss {without:.3f} by the last letter, {with_ngrams:.3f} with n-grams")


if __name__ == "__main__":
    main()
