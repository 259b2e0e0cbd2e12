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
    assert tokenizer.id_of("<BOS>") == 4
    with pytest.raises(ValueError, match="token 'x' is not one of"):
        tokenizer.id_of("x")


def test_a_model_needs_heads_that_divide_its_width():
    import random

    with pytest.raises(ValueError, match="n_embd must be a multiple of n_head, got 16 and 3"):
        GPT(27, 8, 16, 3, 1, dtype="float64", rng=random.Random(0))
