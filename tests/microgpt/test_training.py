"""Training of the names model: the scalar script's losses and samples, both backends, resuming."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
from common import same_bits
from scalar_gpt import ScalarGPT

from fastembed import checkpoint
from fastembed.checkpoint import CheckpointError
from fastembed.microgpt import read_documents
from fastembed.training import Options, Run, load_model


@pytest.fixture
def no_collector():
    """Scalars make no cycles, and to look for them among millions takes most of the time."""
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


@pytest.mark.on_reference
def test_a_run_ends_at_its_last_step():
    run = Run(Options(steps=5, block_size=4, n_embd=4, n_head=2))
    with pytest.raises(ValueError, match="stop_at must be at most the 5 steps of the run, got 6"):
        next(run.train(6))
    assert run.step == 0


def test_descriptions_that_lie(tmp_path):
    """What the description says of sizes, names and state is checked before it is used."""
    path = str(tmp_path / "c.safetensors")
    run = Run(Options(steps=5, block_size=4, n_embd=4, n_head=2))
    list(run.train(3))
    run.save(path)
    tensors, good = checkpoint.load(path)
    model, tokenizer, _ = load_model(path)
    assert same_bits(model.emb.wte, run.model.emb.wte)
    assert tokenizer.characters == run.tokenizer.characters

    def with_options(**changes):
        return {**good, "options": {**good["options"], **changes}}

    lies = [None, 5, [], {}, with_options(block_size=2**40), with_options(n_embd=8), with_options(n_layer=10**9)]
    lies += [with_options(n_layer=2), with_options(dtype="float32"), with_options(dtype="int8"), with_options(n_head=3)]
    lies += [with_options(steps="many"), {**good, "step": 6}, {**good, "step": -1}, {**good, "characters": ["a"]}]
    lies += [with_options(steps=10**400), with_options(n_layer=0), with_options(lr=-1.0), with_options(seed=2**70)]
    lies += [{**good, "data": 5}, {**good, "data": ["x"]}, {**good, "data": "/dev/zero"}, {**good, "data": "a\0b"}]
    lies += [{**good, "characters": good["characters"][::-1]}, {**good, "rng": [3, [1, 2], None]}, {**good, "rng": None}]
    for lie in lies:
        checkpoint.save(path, tensors, lie)
        with pytest.raises(CheckpointError):
            Run.resume(path)
    checkpoint.save(path, {**tensors, "lm_head": tensors["lm_head"][:-1]}, good)
    with pytest.raises(CheckpointError, match="lm_head of"):
        load_model(path)
    checkpoint.save(path, {**tensors, "wte": tensors["wte"][:-1]}, good)
    with pytest.raises(CheckpointError):
        load_model(path)
    checkpoint.save(path, tensors, {**good, "data_sha256": "0"})
    with pytest.raises(CheckpointError, match="is not the one"):
        Run.resume(path)
