"""The names model: gradients by finite differences, its tokenizer, and its shape."""

import numpy as np
import pytest

from fastembed.microgpt import GPT, Tokenizer
from fastembed.training import Options, Run


def test_every_gradient_by_finite_differences():
    run = Run(Options(block_size=6, n_embd=8, n_head=2, n_layer=2))
    model, tokens, h = run.model, run.tokenizer.encode("ababca"), 1e-6
    model.loss(tokens)
    gradients = {name: grad.to_dense() for name, grad in model.emb.grads().items()}
    gradients |= {name: weight.grad for name, weight in model.weights.items()}
    rng = np.random.default_rng(0)
    assert gradients.keys() == model.state_dict().keys()
    for name, array in model.state_dict().items():
        touched = np.argwhere(gradients[name] != 0)
        for index in map(tuple, touched[rng.integers(0, len(touched), 12)]):
            value = array[index]
            array[index] = value + h
            above = model.loss(tokens)
            array[index] = value - h
            below = model.loss(tokens)
            array[index] = value
            assert abs((above - below) / (2 * h) - gradients[name][index]) < 1e-7, name


def test_tokenizer():
    tokenizer = Tokenizer("hello")
    assert tokenizer.characters == ["e", "h", "l", "o"]
    assert [tokenizer.name(i) for i in tokenizer.encode("hole")] == ["<BOS>", "h", "o", "l", "e", "<BOS>"]
    for n in range(9):
        assert tokenizer.encode("hole", n) == tokenizer.encode("hole")[:n]
    assert tokenizer.id_of("<BOS>") == 4
    with pytest.raises(ValueError, match="token 'x' is not one of"):
        tokenizer.id_of("x")


def test_a_model_needs_heads_that_divide_its_width():
    import random

    with pytest.raises(ValueError, match="n_embd must be a multiple of n_head, got 16 and 3"):
        GPT(27, 8, 16, 3, 1, dtype="float64", rng=random.Random(0))


def test_of_a_long_document_only_the_window_is_encoded():
    import random

    seen = []

    class Line(str):
        """A document that tells how much of it was read."""

        __slots__ = ()

        def __getitem__(self, part):
            found = str.__getitem__(self, part)
            seen.append(len(found))
            return found

        def __iter__(self):
            raise AssertionError("the whole document was read")

    tokenizer = Tokenizer("ab")
    tokens = tokenizer.encode(Line("ab" * 10_000), 9)
    assert tokens == [2, *[0, 1] * 4]
    assert seen == [8]
    model = GPT(3, 8, 4, 2, 1, dtype="float64", rng=random.Random(0))
    assert model.loss(tokens) == model.loss(tokenizer.encode("ab" * 10_000))
