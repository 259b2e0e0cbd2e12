"""The GPT of microgpt around the embedding layer, in NumPy, forward and backward by hand.

The layer is the embedding stage; the rest of the model is here to train it on real text.
n: positions of a document, C: n_embd, H: n_head, V: vocab_size.

The model is that of Andrej Karpathy's microgpt (https://karpathy.github.io/2026/02/12/microgpt/).
It draws random numbers in the order in which that script does, so that losses and samples agree.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from .._messages import limit
from ..layers.token_position import TokenPositionEmbedding
from ..optim import Parameter

if TYPE_CHECKING:
    from .._typing import Array


BOS_NAME = "<BOS>"
MAX_TEXT = 1 << 30  # characters of a text file


def read_documents(path: str | None = None) -> list[str]:
    """The non-empty stripped lines of a UTF-8 text file; by default the names in the package.

    Raises
    ------
    OSError, ValueError
        The file cannot be read, is longer than MAX_TEXT, is no text, or holds none.
    """
    if path is None:
        text = resources.files("fastembed").joinpath("data/names.txt").read_text(encoding="utf-8")
    else:
        text = _read_text(path)
    documents = [line.strip() for line in text.split("\n") if line.strip()]
    if not documents:
        raise ValueError(f"{_checks.shown(path, str)} holds no text")
    return documents


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MAX_TEXT + 1)
        if len(text) > MAX_TEXT:
            raise ValueError(f"it has more than {limit(MAX_TEXT)} characters")
        nul = text.find("\0")
        if nul >= 0:
            line = text.count("\n", 0, nul) + 1
            raise ValueError(f"there is a NUL character in line {line}, as in UTF-16")
    except ValueError as error:  # an encoding error, or an invalid path
        raise ValueError(f"{_checks.shown(path)} is not a file of UTF-8 text: {error}") from error
    return text


class Tokenizer:
    """Characters to ids: the sorted characters, then BOS, which begins and ends a document.

    Examples
    --------
    >>> tokenizer = Tokenizer("abc")
    >>> tokenizer.encode("cab"), tokenizer.bos
    ([3, 2, 0, 1, 3], 3)
    """

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = sorted(set(characters))
        self.bos = len(self.characters)
        self._ids = {c: i for i, c in enumerate(self.characters)}

    @property
    def vocab_size(self) -> int:
        return self.bos + 1

    def encode(self, document: str, n: int | None = None) -> list[int]:
        """The ids of a document, with BOS before and after them; the first ``n`` of these."""
        characters = document if n is None else document[: max(n - 1, 0)]
        return [self.bos, *(self._ids[c] for c in characters), self.bos][:n]

    def prompt(self, text: str, block_size: int) -> list[int]:
        """The ids of characters that a sample begins with; a ValueError names what is wrong."""
        for position, c in enumerate(text):
            if c not in self._ids:
                known = _checks.first_few([*map(repr, self.characters)])
                raise ValueError(f"character {c!r} at position {position} of prompt is not one of {known}")
        if len(text) >= block_size:
            raise ValueError(f"prompt must have fewer characters than the {block_size} positions, got {len(text)}")
        return [self._ids[c] for c in text]

    def name(self, token_id: int) -> str:
        """The token as text: its character, or BOS_NAME."""
        return BOS_NAME if token_id == self.bos else self.characters[token_id]

    def id_of(self, name: str) -> int:
        """The inverse of `name`; ValueError for an unknown token."""
        if name == BOS_NAME:
            return self.bos
        if name not in self._ids:
            known = _checks.first_few([*map(repr, self.characters), BOS_NAME])
            raise ValueError(f"token {_checks.shown(name)} is not one of the {self.vocab_size} tokens: {known}")
        return self._ids[name]


def rmsnorm(x: Array) -> tuple[Array, Array]:
    """x * scale with scale = 1 / sqrt(mean(x^2) + 1e-5) over the last axis; and scale."""
    scale = ((x * x).mean(-1, keepdims=True) + 1e-5) ** -0.5
    return x * scale, scale


def rmsnorm_backward(dy: Array, x: Array, scale: Array) -> Array:
    """The gradient of x, from that of `rmsnorm`'s result; scale is what `rmsnorm` returned."""
    return scale * dy - x * (scale**3 * (dy * x).mean(-1, keepdims=True))


def softmax(x: Array) -> Array:
    """Over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def shapes(vocab_size: int, block_size: int, n_embd: int, n_layer: int) -> dict[str, tuple[int, int]]:
    """The shape of each of microgpt's parameters by name, in the order of drawing."""
    square = (n_embd, n_embd)
    result = {"wte": (vocab_size, n_embd), "wpe": (block_size, n_embd), "lm_head": (vocab_size, n_embd)}
    for i in range(n_layer):
        result |= {f"layer{i}.{name}": square for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo")}
        result |= {f"layer{i}.mlp_fc1": (4 * n_embd, n_embd), f"layer{i}.mlp_fc2": (n_embd, 4 * n_embd)}
    return result


class GPT:
    """microgpt's model. Parameters are drawn with ``rng.gauss(0, 0.08)`` in its script's order.

    Parameters
    ----------
    vocab_size, block_size, n_embd, n_head, n_layer : int
        ``n_embd`` is a multiple of ``n_head``.
    dtype : {"float64", "float32"}
    rng : random.Random

    Attributes
    ----------
    emb : TokenPositionEmbedding
    weights : dict of name to Parameter
        Everything but the two tables.
    """

    @own_floats
    def __init__(
        self, vocab_size: int, block_size: int, n_embd: int, n_head: int, n_layer: int, *, dtype: str, rng: random.Random
    ) -> None:
        if n_head < 1 or n_embd % n_head:
            raise ValueError(f"n_embd must be a multiple of n_head, got {n_embd} and {n_head}")
        self.n_head, self.n_layer = n_head, n_layer
        numpy_dtype = _checks.dtype(dtype)
        drawn = {
            name: np.array([[rng.gauss(0, 0.08) for _ in range(n_in)] for _ in range(n_out)], numpy_dtype)
            for name, (n_out, n_in) in shapes(vocab_size, block_size, n_embd, n_layer).items()
        }
        self.emb = TokenPositionEmbedding.from_arrays(drawn.pop("wte"), drawn.pop("wpe"))
        self.weights = {name: Parameter(array) for name, array in drawn.items()}

    def state_dict(self) -> dict[str, Array]:
        """All parameters by name."""
        return self.emb.state_dict() | {name: weight.data for name, weight in self.weights.items()}

    @own_floats
    def load_state_dict(self, state: dict[str, Array]) -> None:
        """Copy parameters into this model, all or none; names and shapes are those of `state_dict`.

        Raises
        ------
        KeyError, ValueError, TypeError
            A name is missing, an array has another shape, or its dtype does not convert. Nothing
            has been copied.
        """
        pairs = [
            (_checks.writable(name, array), _checks.convertible_array(name, state[name], array.shape, array.dtype))
            for name, array in self.state_dict().items()
        ]
        commit = kernels.Commit()
        for target, source in _checks.sources_for(pairs):
            commit.add_copy(target, source)
        commit.run()

    @own_floats
    def logits(self, token_ids: Any) -> Array:
        """Scores of the next token after each of n tokens, shape (n, V)."""
        x, _, _ = self._forward(token_ids)
        return x @ self.weights["lm_head"].data.T

    @own_floats
    def loss(self, tokens: list[int]) -> float:
        """Mean of -log p(next token) over at most block_size positions, and its backward.

        The gradients of the layer are accumulated in ``emb.grads()``; those of ``weights`` are
        replaced.
        """
        n = min(self.emb.block_size, len(tokens) - 1)
        x, scale, caches = self._forward(tokens[:n])
        lm_head = self.weights["lm_head"]
        probs = softmax(x @ lm_head.data.T)
        picked = np.arange(n), np.array(tokens[1 : n + 1])
        loss = float(-np.log(probs[picked]).mean())
        dlogits = probs
        dlogits[picked] -= 1.0
        dlogits /= n
        lm_head.grad = dlogits.T @ x
        dx = dlogits @ lm_head.data
        for i in reversed(range(self.n_layer)):
            dx = self._layer_backward(i, dx, caches[i])
        self.emb.backward(rmsnorm_backward(dx, *scale))
        return loss

    def _forward(self, token_ids: Any) -> tuple[Array, tuple[Array, Array], list[Any]]:
        """The last hidden states; what the backward of the first norm and of each layer needs."""
        embedded = self.emb(token_ids)
        x, scale = rmsnorm(embedded)
        caches = []
        for i in range(self.n_layer):
            x, cache = self._layer(i, x)
            caches.append(cache)
        return x, (embedded, scale), caches

    def _weight(self, layer: int, name: str) -> Parameter:
        return self.weights[f"layer{layer}.{name}"]

    def _heads(self, x: Array) -> Array:
        """(n, C) -> (H, n, C / H)."""
        return x.reshape(len(x), self.n_head, -1).swapaxes(0, 1)

    def _layer(self, i: int, x: Array) -> tuple[Array, Any]:
        """x + attention(norm(x)), then x + mlp(norm(x))."""
        n, n_embd = x.shape
        h, h_scale = rmsnorm(x)
        q, k, v = (self._heads(h @ self._weight(i, name).data.T) for name in ("attn_wq", "attn_wk", "attn_wv"))
        scores = q @ k.swapaxes(1, 2) / (n_embd // self.n_head) ** 0.5
        scores[:, np.triu(np.ones((n, n), bool), 1)] = -np.inf
        attention = softmax(scores)
        a = (attention @ v).swapaxes(0, 1).reshape(n, n_embd)
        y = x + a @ self._weight(i, "attn_wo").data.T
        g, g_scale = rmsnorm(y)
        hidden = np.maximum(g @ self._weight(i, "mlp_fc1").data.T, 0)
        return y + hidden @ self._weight(i, "mlp_fc2").data.T, (x, h, h_scale, q, k, v, attention, a, y, g, g_scale, hidden)

    def _layer_backward(self, i: int, dout: Array, cache: Any) -> Array:
        """The gradient of a layer's input; those of its weights are stored in them."""
        x, h, h_scale, q, k, v, attention, a, y, g, g_scale, hidden = cache
        wq, wk, wv, wo, fc1, fc2 = (
            self._weight(i, name) for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo", "mlp_fc1", "mlp_fc2")
        )
        fc2.grad = dout.T @ hidden
        dhidden = (dout @ fc2.data) * (hidden > 0)
        fc1.grad = dhidden.T @ g
        dy = dout + rmsnorm_backward(dhidden @ fc1.data, y, g_scale)
        wo.grad = dy.T @ a
        da = self._heads(dy @ wo.data)
        dattention = da @ v.swapaxes(1, 2)
        dscores = attention * (dattention - (dattention * attention).sum(-1, keepdims=True)) / q.shape[-1] ** 0.5
        dh = np.zeros_like(h)
        for weight, dhead in ((wq, dscores @ k), (wk, dscores.swapaxes(1, 2) @ q), (wv, attention.swapaxes(1, 2) @ da)):
            dprojected = dhead.swapaxes(0, 1).reshape(h.shape)
            weight.grad = dprojected.T @ h
            dh += dprojected @ weight.data
        return dy + rmsnorm_backward(dh, x, h_scale)

    @own_floats  # a temperature near 0 gives -inf
    def sample(self, tokenizer: Tokenizer, rng: random.Random, temperature: float = 0.5, prompt: str = "") -> str:
        """One document: characters drawn with ``rng.choices`` until BOS, or block_size of them.

        It begins with the prompt, which has fewer characters than block_size. A temperature of 0,
        or so near to it that the dtype cannot divide by it, gives the token with the highest score
        each time.

        Raises
        ------
        ValueError
            The temperature is negative or not finite, the prompt is too long or has an unknown
            character, or a score is not finite.
        """
        given = tokenizer.prompt(prompt, self.emb.block_size)
        temperature = _checks.number("temperature", temperature, 0.0, sys.float_info.max)
        was_training = self.emb.training
        try:
            self.emb.eval()
            tokens = [tokenizer.bos, *given]
            while len(tokens) <= self.emb.block_size:
                weights = self._next_probabilities(tokens, temperature)
                token = rng.choices(range(tokenizer.vocab_size), weights=weights.tolist())[0]
                if token == tokenizer.bos:
                    break
                tokens.append(token)
        finally:
            self.emb.train(was_training)
        return "".join(map(tokenizer.name, tokens[1:]))

    def _next_probabilities(self, tokens: list[int], temperature: float) -> Array:
        logits = self.logits(tokens)[-1]
        if not np.isfinite(logits).all():
            raise ValueError(f"the scores of the token after {len(tokens)} tokens are not finite")
        return softmax((logits - logits.max()) / max(temperature, float(np.finfo(logits.dtype).tiny)))
