"""Random runs of the optimisers over PyTorch, against PyTorch's own."""

from __future__ import annotations

import copy
import pickle
from typing import Any
from unittest import mock

import numpy as np
import torch

import fastembed.adapters.torch as ft

from .programs import NAMES, Program, assert_close, ids_of, pair

# Each option and its values; of those that PyTorch refuses together, both raise the same error.
OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "SGD": {
        "lr": (0.0, 0.01, 0.1), "momentum": (0, 0.5, 0.9), "dampening": (0, 0.5), "weight_decay": (0, 0.1),
        "nesterov": (False, True),
    },
    "Adagrad": {
        "lr": (0.01, 0.5), "lr_decay": (0, 0.1), "weight_decay": (0, 0.1), "initial_accumulator_value": (0, 0.5),
        "eps": (1e-10, 1e-2),
    },
    "Adam": {
        "lr": (0.0, 0.01, 0.1), "betas": ((0.9, 0.999), (0.0, 0.5), (0.5, 0.9)), "eps": (1e-8, 1e-2),
        "weight_decay": (0, 0.1), "amsgrad": (False, False, True),
    },
    "SparseAdam": {"lr": (0.01, 0.1), "betas": ((0.9, 0.999), (0.5, 0.9)), "eps": (1e-8, 1e-2)},
}  # fmt: skip
OPTIONS["AdamW"] = OPTIONS["Adam"]
IMPLEMENTATIONS = ({}, {"foreach": False}, {"foreach": True}, {"fused": True})


def check_steps(seed: int, case: int, n_steps: int = 12) -> bool:
    """Train both programs of a draw alike; whether both raised the same exception instead."""
    rng = np.random.default_rng([seed, case])
    name = NAMES[rng.integers(len(NAMES))]
    options = {key: values[rng.integers(len(values))] for key, values in OPTIONS[name].items() if rng.random() < 0.7}
    options["maximize"] = bool(rng.random() < 0.3)
    if name != "SparseAdam":
        options |= IMPLEMENTATIONS[rng.integers(len(IMPLEMENTATIONS))]
    rows = ft.optim.RowSteps
    small, few = (0, -1) if rng.random() < 0.8 else (rows._small, rows._few)  # by rows, or left to PyTorch
    layer = {"is_bag": bool(rng.random() < 0.3), "is_sparse": bool(rng.random() < 0.5) and _may_be_sparse(name, options)}
    try:
        if message := _error(torch.optim, name, options):
            assert _error(ft.optim, name, options) == message
            return True
        with mock.patch.multiple(rows, _small=small, _few=few):
            ours, theirs = pair(name, options, **layer)
            for _ in range(n_steps):
                ours, theirs = _step(rng, ours, theirs)
            assert_close(ours, theirs)
    except Exception as error:
        error.add_note(f"python -m torch_draws --only steps --seed {seed} --case {case}: {name}, {options}, {layer}")
        raise
    return False


def _may_be_sparse(name: str, options: dict[str, Any]) -> bool:
    """Whether PyTorch's optimiser takes sparse gradients too."""
    return name in ("SGD", "Adagrad") and not any(options.get(key) for key in ("momentum", "weight_decay", "nesterov", "fused"))


def _error(optimizers: Any, name: str, options: dict[str, Any]) -> str:
    """What is wrong with the options."""
    try:
        getattr(optimizers, name)([torch.nn.Parameter(torch.ones(2, 2))], **options)
    except ValueError as error:
        return str(error)
    return ""


def _step(rng: np.random.Generator, ours: Program, theirs: Program) -> tuple[Program, Program]:
    """One step of both, with passes, options and states drawn anew; returns them or their copies.

    Both are copied, since PyTorch's copies of parameters have no gradient.
    """
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 30)))
    event = rng.integers(12)
    if event == 0:
        ours, theirs = copy.deepcopy(ours), copy.deepcopy(theirs)
    elif event == 1:
        ours, theirs = (pickle.loads(pickle.dumps(program)) for program in (ours, theirs))
    elif event == 2:
        _swap_states(ours, theirs)
    elif event == 3:
        lr = float(rng.choice([0.01, 0.2]))
        for program in (ours, theirs):
            program.opt.param_groups[0]["lr"] = lr
    set_to_none, n_passes = bool(rng.random() < 0.8), int(rng.choice([0, 1, 1, 2]))
    for program in (ours, theirs):
        program.zero_grad(set_to_none)
    for _ in range(n_passes):
        ids = ids_of(generator, int(rng.integers(1, 4)), int(rng.integers(1, 5)))
        for program in (ours, theirs):
            program.backward(ids)
    for program in (ours, theirs):
        program.step()
    return ours, theirs


def _swap_states(ours: Program, theirs: Program) -> None:
    """Each goes on from the state of the other."""
    for own, other in zip(ours.opts, theirs.opts, strict=True):
        states = copy.deepcopy(own.state_dict()), copy.deepcopy(other.state_dict())
        own.load_state_dict(states[1])
        other.load_state_dict(states[0])
