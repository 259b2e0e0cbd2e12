"""Random draws of options of the thinc adapter, each compared with thinc itself.

`python -m thinc_draws --n 10000 --seed 0`. Where thinc is wrong, with the right answer:

- its scatter_add drops negative ids, if ids are int32 and all is float32 and contiguous, and counts
  them from the end otherwise, as its Embed does in the forward: NumPy's meaning is right;
- its scatter_add writes, and its gather_add reads, outside a table (an id above it; the id V; a
  negative one): IndexError, or NumPy's meaning;
- its backprop of HashEmbed without ids is a NameError: no gradient, no dX;
- its Embed with a column gives (0, columns of the ids, D) for no ids: (0, D);
- its gather_add takes contiguous arrays and two integer types: the sum in the order of the ids;
- its scatter_add, as NumPy's add.at, takes the uint64 id 2**64 - 1 for -1: IndexError;
- its adam takes strided arrays for contiguous ones: the formula.
"""

import argparse

import numpy as np
import thinc.api
from thinc.api import NumpyOps

from fastembed.adapters.thinc import Embed, FastEmbedOps, HashEmbed

INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
OURS, THEIRS = FastEmbedOps(), NumpyOps()


def draw_ids(rng, n_rows, shape, *, below=False):
    """Ids of any integer type that the table has, those counted from the end too if ``below``."""
    dtype = rng.choice(INTEGERS)
    is_signed = np.dtype(dtype).kind == "i"
    low = -min(n_rows, 128) if below and is_signed and rng.random() < 0.5 else 0
    return rng.integers(low, min(n_rows, np.iinfo(dtype).max), shape).astype(dtype)


def draw_rows(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def strided(rng, array):
    """The array itself, or a strided view of its values."""
    if array.ndim == 0 or rng.random() < 0.7:
        return array
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def outcome(call):
    """The result of a call, or the class of its exception."""
    try:
        return call()
    except Exception as error:
        return next(kind for kind in (IndexError, ValueError, TypeError, Exception) if isinstance(error, kind))


def agree(ours, right):
    if isinstance(right, type):
        assert ours is right, (ours, right)
    else:
        assert ours.dtype == right.dtype
        np.testing.assert_array_equal(ours, right)


def gather_add(rng):
    n_rows, n_cols, n, k = rng.integers(1, 300), rng.integers(1, 40), rng.integers(0, 30), rng.integers(1, 9)
    table = strided(rng, draw_rows(rng, n_rows, n_cols, dtype=rng.choice([np.float32, np.float64])))
    ids = strided(rng, draw_ids(rng, n_rows, (n, k), below=True))
    ours, right = OURS.gather_add(table, ids), np.zeros((n, n_cols), table.dtype)
    for column in ids.T:
        right += table[column]
    agree(ours, right)
    if (
        ids.dtype in (np.int32, np.uint32)
        and ids.min(initial=0) >= 0
        and n
        and table.flags.c_contiguous
        and ids.flags.c_contiguous
    ):
        agree(ours, THEIRS.gather_add(table, ids))


def scatter_add(rng):
    n_rows, n_cols, shape = rng.integers(1, 300), rng.integers(1, 40), tuple(rng.integers(0, 12, rng.integers(1, 3)))
    dtype = rng.choice([np.float32, np.float64])
    table = strided(rng, draw_rows(rng, n_rows, n_cols, dtype=dtype))
    ids = strided(rng, draw_ids(rng, n_rows, shape, below=True))
    values = strided(rng, draw_rows(rng, *shape, n_cols, dtype=dtype))
    if ids.size and rng.random() < 0.1:
        ids.flat[rng.integers(ids.size)] = np.iinfo(ids.dtype).max
    right, before = table.copy(), table.copy()
    result = outcome(lambda: np.add.at(right, ids, values))
    if ids.dtype == np.uint64 and (ids > n_rows).any():
        result = IndexError
    assert outcome(lambda: OURS.scatter_add(table, ids, values)) is result
    agree(table, before if result is IndexError else right)
    if result is None and ids.min(initial=0) >= 0:
        THEIRS.scatter_add(before, ids, values)
        agree(table, before)


def adam(rng):
    n, options = rng.integers(0, 300), (rng.random(), rng.random(), 10.0 ** -rng.integers(2, 9), rng.random())
    arrays = [draw_rows(rng, n) for _ in range(3)] + [rng.random(n, np.float32)]
    theirs = [array.copy() for array in arrays]
    THEIRS.adam(*theirs, *options)
    ours = [strided(rng, array) for array in arrays]
    OURS.adam(*ours, *options)
    for array, right in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(array, right, rtol=2e-5, atol=2e-6)


def initialized(rng, ours, theirs):
    """Both models with one table, which went through the bytes of one of them."""
    if rng.random() < 0.5:
        ours.from_bytes(theirs.initialize().to_bytes())
    else:
        theirs.from_bytes(ours.initialize().to_bytes())
    return ours, theirs


def layer(rng):
    is_hashed, n_cols, n_rows = rng.random() < 0.5, int(rng.integers(1, 40)), int(rng.integers(1, 300))
    column = None if rng.random() < 0.5 else int(rng.integers(0, 2))
    options = {"column": column, "dropout": rng.choice([None, 0.0, 0.3, 1.0])}
    if is_hashed:
        options["seed"] = int(rng.integers(0, 2**32))
        kinds = HashEmbed, thinc.api.HashEmbed
    else:
        kinds = Embed, thinc.api.Embed
    ours, theirs = initialized(rng, *(kind(n_cols, n_rows, **options) for kind in kinds))
    n, is_train, seed = rng.integers(0, 30), bool(rng.random() < 0.7), int(rng.integers(2**32))
    ids = draw_ids(rng, n_rows, n if column is None else (n, 2), below=True)
    dout, results = draw_rows(rng, n, n_cols), []
    for model in (ours, theirs):
        np.random.seed(seed)
        results.append(model(ids, is_train))
    (x, backprop), (right, their_backprop) = results
    agree(x, right.reshape(n, n_cols))
    if n == 0:
        assert (outcome(lambda: their_backprop(dout.copy())) is Exception) == is_hashed
        assert backprop(dout).shape == ids.shape
        return
    agree(backprop(dout.copy()), their_backprop(dout.copy()))
    gradient, right = ((model if column is None else model.layers[1]).get_grad("E") for model in (ours, theirs))
    if not is_hashed and ids.dtype == np.int32:
        np.random.seed(seed)
        mask = theirs.ops.get_dropout_mask((n_cols,), options["dropout"] if is_train else None)
        right = np.zeros_like(right)
        np.add.at(right, ids if column is None else ids[:, column], dout * mask)
    agree(gradient, right)
    backprop(dout)
    np.testing.assert_allclose(gradient, 2 * right, rtol=1e-5, atol=1e-5)  # a second time, added in place


DRAWS = (gather_add, scatter_add, adam, layer, layer)


def run(n, seed, first=0):
    """Draws number first .. n - 1 of a seed; what differs says its number."""
    for number in range(first, n):
        try:
            DRAWS[number % len(DRAWS)](np.random.default_rng((seed, number)))
        except AssertionError as error:
            raise AssertionError(f"draw {number} of seed {seed}: {DRAWS[number % len(DRAWS)].__name__}\n{error}") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run(arguments.n, arguments.seed)
    print(f"{arguments.n} draws with seed {arguments.seed}: no difference but the listed ones")
