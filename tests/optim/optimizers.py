"""Optimisers with options that move everything, batches for them, and what a step could change."""

import copy
import pickle

import numpy as np
import pytest

import fastembed as fe
from fastembed import reference

MAKE = {
    "SGD": lambda items, **rows: fe.optim.SGD(items, lr=0.1, momentum=0.9, weight_decay=0.01, **rows),
    "Adagrad": lambda items, **rows: fe.optim.Adagrad(items, lr=0.1, initial_accumulator_value=0.5, **rows),
    "RowWiseAdagrad": lambda items, **rows: fe.optim.RowWiseAdagrad(items, lr=0.1, **rows),
    "Adam": lambda items, **rows: fe.optim.Adam(items, lr=0.1, **rows),
    "AdamW": lambda items, **rows: fe.optim.AdamW(items, lr=0.1, weight_decay=0.1, **rows),
    "SparseAdam": lambda items, **rows: fe.optim.SparseAdam(items, lr=0.1, **rows),
}

each_optimizer = pytest.mark.parametrize("name", list(MAKE))


def like_of(opt, like, dtype, **rows):
    """The reference's optimiser with the same options."""
    options = {name: getattr(opt, name) for name in opt.options}
    return getattr(reference.optim, type(opt).__name__)(like, **options, dtype=dtype, **rows)


def batches(rng, n, n_rows, shape, width, dtype="float64"):
    return [(rng.integers(0, n_rows, shape), rng.standard_normal((*shape, width)).astype(dtype)) for _ in range(n)]


def train(layer, opt, some, fused=True):
    for ids, dout in some:
        if fused:
            layer.backward(dout, ids, optimizer=opt)
        else:
            layer.backward(dout, ids)
            opt.step()
            opt.zero_grad()


def snapshot(layer, opt):
    """All that a step could change, as bytes; nothing is brought up to date by looking."""
    state = [{name: array.tobytes() for name, array in arrays.items()} for of_item in opt._state for arrays in of_item.values()]
    grads = {name: (grad.ids.tobytes(), grad.rows.tobytes()) for name, grad in layer.grads().items()}
    return {name: table.tobytes() for name, table in layer.tables.items()}, state, list(opt._steps), grads


def resumed_by_copy(layer, opt, name):
    return copy.deepcopy((layer, opt))


def resumed_by_pickle(layer, opt, name):
    return pickle.loads(pickle.dumps((layer, opt)))


def zipf(rng, n_rows, size):
    p = 1 / (np.arange(n_rows) + 2.7)
    return rng.choice(n_rows, size=size, p=p / p.sum())


def gradients(rng, shape, dtype):
    """Numbers of many sizes, with zeros of both signs among them."""
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-7, 2, shape)
    return np.where(rng.random(shape) < 0.1, rng.choice([0.0, -0.0], shape), values).astype(dtype)
