"""microgpt's training on single Python floats, with which the array model is compared.

Written from the formulas, independently of `fastembed.microgpt`: a tape for the derivatives, no
arrays, one document at a time, dense Adam.
"""

import math
import random


class Scalar:
    """A float that remembers which scalars it was made from, and its derivative by each of them."""

    __slots__ = ("grad", "parents", "value")

    def __init__(self, value, *parents):
        self.value, self.parents, self.grad = value, parents, 0.0

    def __add__(self, other):
        return Scalar(self.value + other.value, (self, 1.0), (other, 1.0))

    def __mul__(self, other):
        return Scalar(self.value * other.value, (self, other.value), (other, self.value))

    def apply(self, value, derivative):
        """A function of this scalar alone, given its value and derivative here."""
        return Scalar(value, (self, derivative))

    def times(self, constant):
        return self.apply(self.value * constant, constant)

    def backward(self):
        order, seen = [], set()
        stack = [(self, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                stack.extend((parent, False) for parent, _ in node.parents)
        self.grad = 1.0
        for node in reversed(order):
            for parent, derivative in node.parents:
                parent.grad += derivative * node.grad


def total(scalars):
    scalars = list(scalars)
    result = scalars[0]
    for scalar in scalars[1:]:
        result = result + scalar
    return result


def linear(weight, x):
    return [total(w * xi for w, xi in zip(row, x, strict=True)) for row in weight]


def rmsnorm(x):
    mean = total(xi * xi for xi in x).times(1 / len(x))
    scale = mean.apply((mean.value + 1e-5) ** -0.5, -0.5 * (mean.value + 1e-5) ** -1.5)
    return [xi * scale for xi in x]


def softmax(x):
    top = max(xi.value for xi in x)
    exps = [xi.apply(math.exp(xi.value - top), math.exp(xi.value - top)) for xi in x]
    whole = total(exps)
    inverse = whole.apply(1 / whole.value, -1 / whole.value**2)
    return [e * inverse for e in exps]


class ScalarGPT:
    def __init__(self, documents, seed, block_size, n_embd=16, n_head=4, n_layer=1):
        self.rng = random.Random(seed)
        self.documents = list(documents)
        self.rng.shuffle(self.documents)
        self.characters = sorted(set("".join(self.documents)))
        self.block_size, self.n_head, self.n_layer = block_size, n_head, n_layer
        vocab = len(self.characters) + 1
        shapes = {"wte": (vocab, n_embd), "wpe": (block_size, n_embd), "lm_head": (vocab, n_embd)}
        for i in range(n_layer):
            shapes |= {f"{i}.{name}": (n_embd, n_embd) for name in ("wq", "wk", "wv", "wo")}
            shapes |= {f"{i}.fc1": (4 * n_embd, n_embd), f"{i}.fc2": (n_embd, 4 * n_embd)}
        self.weights = {
            name: [[Scalar(self.rng.gauss(0, 0.08)) for _ in range(n_in)] for _ in range(n_out)]
            for name, (n_out, n_in) in shapes.items()
        }
        self.moments = {}

    def logits(self, token, position, keys, values):
        w = self.weights
        x = rmsnorm([t + p for t, p in zip(w["wte"][token], w["wpe"][position], strict=True)])
        for i in range(self.n_layer):
            h = rmsnorm(x)
            q = linear(w[f"{i}.wq"], h)
            keys[i].append(linear(w[f"{i}.wk"], h))
            values[i].append(linear(w[f"{i}.wv"], h))
            size = len(q) // self.n_head
            heads = []
            for first in range(0, len(q), size):
                part = slice(first, first + size)
                scores = [total(a * b for a, b in zip(q[part], k[part], strict=True)).times(size**-0.5) for k in keys[i]]
                attention = softmax(scores)
                for d in range(first, first + size):
                    heads.append(total(a * v[d] for a, v in zip(attention, values[i], strict=True)))
            x = [a + b for a, b in zip(x, linear(w[f"{i}.wo"], heads), strict=True)]
            hidden = [a.apply(max(a.value, 0.0), float(a.value > 0)) for a in linear(w[f"{i}.fc1"], rmsnorm(x))]
            x = [a + b for a, b in zip(x, linear(w[f"{i}.fc2"], hidden), strict=True)]
        return linear(w["lm_head"], x)

    def caches(self):
        return [[] for _ in range(self.n_layer)], [[] for _ in range(self.n_layer)]

    def step(self, number, n_steps, lr=0.01, beta1=0.85, beta2=0.99, eps=1e-8):
        """One step of training; the loss before it."""
        bos = len(self.characters)
        document = self.documents[number % len(self.documents)]
        tokens = [bos, *(self.characters.index(c) for c in document), bos]
        n = min(self.block_size, len(tokens) - 1)
        keys, values = self.caches()
        losses = []
        for p in range(n):
            picked = softmax(self.logits(tokens[p], p, keys, values))[tokens[p + 1]]
            losses.append(picked.apply(-math.log(picked.value), -1 / picked.value))
        loss = total(losses).times(1 / n)
        loss.backward()
        t = number + 1
        rate = lr * (1 - number / n_steps)
        for matrix in self.weights.values():
            for row in matrix:
                for scalar in row:
                    m, v = self.moments.get(id(scalar), (0.0, 0.0))
                    m, v = beta1 * m + (1 - beta1) * scalar.grad, beta2 * v + (1 - beta2) * scalar.grad**2
                    self.moments[id(scalar)] = (m, v)
                    scalar.value -= rate * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
                    scalar.grad = 0.0
        return loss.value

    def sample(self, temperature=0.5):
        bos = token = len(self.characters)
        keys, values = self.caches()
        text = ""
        for p in range(self.block_size):
            probs = softmax([x.times(1 / temperature) for x in self.logits(token, p, keys, values)])
            token = self.rng.choices(range(bos + 1), weights=[x.value for x in probs])[0]
            if token == bos:
                break
            text += self.characters[token]
        return text
