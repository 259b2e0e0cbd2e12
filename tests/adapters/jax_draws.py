"""Random calls of the JAX adapter against the same in jax.numpy: values, gradients, errors.

python -m jax_draws --n 10000 --seed 0
"""

import argparse
import functools
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fastembed.adapters import jax as adapter

jax.config.update("jax_enable_x64", True)

# Of a computation that fails: the second one if it had not ended when the call returned.
FAILURES = (jax.errors.JaxRuntimeError, ValueError)

N_SETUPS = 150  # each is compiled once, and drawn many times


class Setup(NamedTuple):
    """What a compiled function depends on."""

    op: str
    mode: str
    bounds: str
    padding: int | None
    dtype: str
    id_dtype: str
    n_rows: int
    n_cols: int
    shape: tuple[int, ...]
    n_bags: int  # 0: bags of one length


def draw_setup(rng):
    op = str(rng.choice(["take", "embedding", "bag"]))
    n_bags = int(rng.integers(0, 6)) if op == "bag" else 0
    n_axes = 0 if op != "bag" else 1 if n_bags else 2
    shape = tuple(int(n) for n in rng.integers(1, 7, n_axes or rng.integers(0, 4)))
    n_rows = int(rng.integers(1, 40))
    return Setup(
        op,
        str(rng.choice(["sum", "mean", "sqrtn", "max"])),
        str(rng.choice(["raise", "wrap", "clip", "zero"])),
        int(rng.integers(-n_rows, n_rows)) if op != "take" and rng.random() < 0.5 else None,
        str(rng.choice(["float32", "float64", "float16", "bfloat16"])),
        str(rng.choice(["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])),
        n_rows,
        int(rng.integers(1, 40)),
        shape,
        n_bags,
    )


def wide(dtype):
    return np.dtype("float64" if dtype == "float64" else "float32")


def rows_of(setup, ids):
    """The row of each id by the policy, -1 for none."""
    ids = ids.astype(object)
    if setup.bounds == "wrap":
        ids = ids % setup.n_rows
    if setup.bounds == "clip":
        ids = np.clip(ids, 0, setup.n_rows - 1)
    inside = (ids >= 0) & (ids < setup.n_rows)
    return np.where(inside, ids, -1).astype(np.int64)


def without_repeats(rows, bag_of_item):
    """The same with each row once in a bag: jax.numpy divides a maximum's gradient among equals."""
    is_first = np.zeros(rows.size, bool)
    is_first[np.unique([bag_of_item, rows.reshape(-1)], axis=1, return_index=True)[1]] = True
    return np.where(is_first.reshape(rows.shape), rows, -1)


def expected(setup, table, rows, bag_of_item):
    """The result in jax.numpy, in the wide dtype; its gradient is XLA's."""
    values = jnp.where((rows >= 0)[..., None], table[jnp.maximum(rows, 0)], 0)
    padding = -2 if setup.padding is None else setup.padding % setup.n_rows
    is_padding = (rows == padding)[..., None]
    if setup.op != "bag":
        return jnp.where(is_padding, jax.lax.stop_gradient(values), values)
    kept = ((rows >= 0) & ~is_padding[..., 0]).reshape(-1)
    values, n_bags = values.reshape(-1, setup.n_cols), setup.n_bags or setup.shape[0]
    counts = jax.ops.segment_sum(kept.astype(values.dtype), bag_of_item, n_bags)[:, None]
    if setup.mode == "max":
        return jnp.where(counts > 0, jax.ops.segment_max(jnp.where(kept[:, None], values, -jnp.inf), bag_of_item, n_bags), 0)
    sums = jax.ops.segment_sum(jnp.where(kept[:, None], values, 0), bag_of_item, n_bags)
    return sums / {"sum": 1, "mean": jnp.maximum(counts, 1), "sqrtn": jnp.sqrt(jnp.maximum(counts, 1))}[setup.mode]


def got(setup, table, ids, offsets):
    options = {"bounds": setup.bounds}
    if setup.op == "take":
        return adapter.take(table, ids, **options)
    if setup.op == "embedding":
        return adapter.embedding(table, ids, padding_idx=setup.padding, **options)
    return adapter.embedding_bag(table, ids, offsets, mode=setup.mode, padding_idx=setup.padding, **options)


@functools.partial(jax.jit, static_argnums=0)
def both_got(setup, table, ids, offsets, grads):
    result, pull = jax.vjp(lambda table: got(setup, table, ids, offsets), table)
    return result, pull(grads)[0]


@functools.partial(jax.jit, static_argnums=0)
def both_expected(setup, table, rows, bag_of_item, grads):
    result, pull = jax.vjp(lambda table: expected(setup, table, rows, bag_of_item), table.astype(wide(setup.dtype)))
    return result.astype(setup.dtype), pull(grads.astype(wide(setup.dtype)))[0].astype(setup.dtype)


def draw_ids(rng, setup):
    limits, slack = np.iinfo(setup.id_dtype), 0 if setup.bounds == "raise" and rng.random() < 0.8 else 5
    low, high = max(-slack, int(limits.min)), min(setup.n_rows + slack, int(limits.max))
    ids = np.asarray(rng.integers(low, high, setup.shape), setup.id_dtype)
    if slack and ids.size and rng.random() < 0.3:
        ids.reshape(-1)[rng.integers(ids.size)] = limits.min if rng.random() < 0.5 else limits.max
    return ids


def error_text(setup, ids):
    """The text of the error for the first id that is out of range, or None."""
    bad = np.argwhere(rows_of(setup, ids) < 0)
    if setup.bounds != "raise" or not len(bad):
        return None
    position = tuple(int(i) for i in bad[0])
    return f"id {ids[position]} at position {position} is out of range for a table of {setup.n_rows} rows"


def check(seed, case):
    """One draw; AssertionError if the two differ."""
    setup = draw_setup(np.random.default_rng([seed, case % N_SETUPS]))
    rng = np.random.default_rng([seed, case, 1])
    ids, offsets = draw_ids(rng, setup), None
    bag_of_item = np.repeat(np.arange(setup.shape[0]), setup.shape[1]) if setup.op == "bag" and not setup.n_bags else None
    if setup.n_bags:
        offsets = np.sort(rng.integers(0, setup.shape[0] + 1, setup.n_bags))
        offsets[0] = 0
        bag_of_item = np.searchsorted(offsets, np.arange(setup.shape[0]), side="right") - 1
        offsets = jnp.asarray(offsets, rng.choice(["int32", "int64"]))
    columns = [rng.permutation(setup.n_rows) - 20 for _ in range(setup.n_cols)]  # no ties, which jax.numpy would divide
    table = jnp.asarray(np.stack(columns, 1) / 8, setup.dtype)
    text = error_text(setup, ids)
    n_bags = setup.n_bags or (setup.shape[0] if setup.op == "bag" else 0)
    grads = jnp.asarray(rng.standard_normal((n_bags, setup.n_cols) if n_bags else (*setup.shape, setup.n_cols)), setup.dtype)
    failure = None
    try:
        results = jax.block_until_ready(both_got(setup, table, jnp.asarray(ids), offsets, grads))
    except FAILURES as error:
        failure = str(error)
    assert (failure is None) == (text is None), (setup, ids, failure, text)
    if failure is not None:
        assert text in failure, (setup, ids, failure, text)
        return
    rows = rows_of(setup, ids)
    if setup.mode == "max" and n_bags:
        rows = without_repeats(rows, bag_of_item)
    answers = both_expected(setup, table, jnp.asarray(rows), bag_of_item, grads)
    exact = setup.op != "bag" or setup.mode == "max"
    tolerance = 0 if exact else {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}[setup.dtype]
    for name, a, b in zip(("result", "gradient"), results, answers, strict=True):
        assert a.dtype == b.dtype == jnp.dtype(setup.dtype), (setup, name)
        np.testing.assert_allclose(
            np.asarray(a, "float64"),
            np.asarray(b, "float64"),
            rtol=tolerance,
            atol=tolerance,
            err_msg=f"{case}: {name}, {setup}",
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for case in range(options.n):
        check(options.seed, case)
    print(f"{options.n} draws of seed {options.seed}: no difference")


if __name__ == "__main__":
    main()
