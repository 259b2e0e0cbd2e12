"""The names model: the scalar script's losses and samples, finite differences, both backends, resuming."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
from scalar_gpt import ScalarGPT

from fastembed.microgpt import GPT, Tokenizer, read_documents
from fastembed.training import Options, Run


@pytest.fixture
def no_collector():
    """Scalars refer to one another without circles, and to look through millions of them takes most of the time."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("n_steps", "block_size", "n_layer"),
    [
        (8, 8, 1),
        (5, 16, 2),
        pytest.param(1000, 8, 1, marks=pytest.mark.long),
        pytest.param(1000, 16, 1, marks=pytest.mark.long),
    ],
)
def test_losses_and_samples_are_those_of_single_floats(n_steps, block_size, n_layer):
    run = Run(Options(steps=n_steps, block_size=block_size, n_layer=n_layer))
    scalar = ScalarGPT(read_documents(), 42, block_size, n_layer=n_layer)
    losses = list(run.train(n_steps))
    expected = [scalar.step(number, n_steps) for number in range(n_steps)]
    assert len(losses) == n_steps
    assert np.abs(np.array(losses) - expected).max() < 1e-9
    n_samples = 20 if n_steps == 1000 else 5
    samples = [run.model.sample(run.tokenizer, run.rng) for _ in range(n_samples)]
    assert samples == [scalar.sample() for _ in range(n_samples)]


def test_training_learns_the_names():
    run = Run(Options())
    losses = list(run.train(1000))
    assert 3.2 < np.mean(losses[:10]) < 3.6
    assert 2.2 < np.mean(losses[-100:]) < 2.4
    assert all(isinstance(loss, float) for loss in losses)


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


def test_float32_trains_too():
    exact, rounded = (np.array(list(Run(Options(steps=100, dtype=dtype)).train(100))) for dtype in ("float64", "float32"))
    assert 0 < np.abs(exact - rounded).max() < 1e-2


def test_both_backends_give_the_same_bits():
    script = "from fastembed.training import *; print([x.hex() for x in Run(Options(steps=60)).train(60)])"
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "FASTEMBED_BACKEND": backend}, capture_output=True, check=True
        )
        for backend in ("c", "reference")
    ]
    assert outputs[0].stdout == outputs[1].stdout
    assert outputs[0].stdout.count(b"0x1.") == 60


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path, dtype):
    options, path = Options(steps=60, dtype=dtype), str(tmp_path / "c.safetensors")
    whole = Run(options)
    losses = list(whole.train(60))
    samples = [whole.model.sample(whole.tokenizer, whole.rng) for _ in range(5)]
    stopped = Run(options)
    first = list(stopped.train(23))
    stopped.save(path)
    resumed = Run.resume(path)
    assert resumed.step == 23
    assert first + list(resumed.train(60)) == losses
    assert [resumed.model.sample(resumed.tokenizer, resumed.rng) for _ in range(5)] == samples


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
