"""The JAX adapter: compiled, differentiated, mapped; its errors; random calls against jax.numpy."""

import concurrent.futures
import functools
import subprocess
import sys

import numpy as np
import pytest
from common import needs_c, with_path

jax = pytest.importorskip("jax", reason="the adapter of JAX needs jax")
if needs_c.args[0]:
    pytest.skip("the adapter of JAX needs the C backend", allow_module_level=True)

import jax_draws  # noqa: E402
from jax import numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import fastembed as fe  # noqa: E402
from fastembed.adapters.jax import embedding, embedding_bag, take  # noqa: E402

COPIED = ("float32", "float64", "float16", "bfloat16", "complex64", "complex128", "int8", "uint64", "bool")
MODES = ("sum", "mean", "sqrtn", "max")
IDS = np.array([[1, 5, 1], [0, 3, 3]], np.int32)


@pytest.fixture
def table():
    return jnp.asarray(np.random.default_rng(0).standard_normal((7, 5)))


def test_random_calls_are_those_of_jax_numpy():
    for case in range(8):
        jax_draws.check(0, case)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "complex64", "complex128", "int8", "uint64", "bool"]
)
@pytest.mark.parametrize("n_cols", [1, 3, 16])
def test_take_copies_every_dtype(dtype, n_cols):
    values = jnp.asarray(np.random.default_rng(1).integers(0, 2, (6, n_cols)), dtype)
    assert (take(values, IDS) == jnp.take(values, IDS, axis=0)).all()


def test_bounds_are_the_modes_of_jax_numpy(table):
    ids = jnp.array([0, 6, 7, 100])
    assert (take(table, ids, bounds="clip") == jnp.take(table, ids, axis=0, mode="clip")).all()
    assert (take(table, ids, bounds="wrap") == jnp.take(table, ids, axis=0, mode="wrap")).all()
    assert (take(table, ids, bounds="zero") == jnp.take(table, ids, axis=0, mode="fill", fill_value=0)).all()


def test_the_bits_of_the_package(table):
    assert (np.asarray(take(table, IDS)) == fe.gather(np.asarray(table), IDS)).all()
    for mode in MODES:
        result = fe.embedding_bag(np.asarray(table), IDS.reshape(-1), [0, 2, 2], mode=mode)
        assert (np.asarray(embedding_bag(table, IDS.reshape(-1), [0, 2, 2], mode=mode)) == result).all()
        dtable, dout = np.zeros(table.shape), np.random.default_rng(2).standard_normal(result.shape)
        fe.embedding_bag_backward(dout, IDS.reshape(-1), dtable, [0, 2, 2], mode=mode, table=np.asarray(table))
        pull = jax.vjp(functools.partial(embedding_bag, ids=IDS.reshape(-1), offsets=[0, 2, 2], mode=mode), table)[1]
        assert (np.asarray(pull(jnp.asarray(dout))[0]) == dtable).all()


def test_derivatives_of_both_kinds_and_orders(table):
    check_grads(lambda table: jnp.sin(take(table, IDS)), (table,), order=2)
    check_grads(lambda table: jnp.sin(embedding(table, IDS, padding_idx=None)), (table,), order=2)
    for mode in MODES:
        check_grads(lambda table, mode=mode: jnp.sin(embedding_bag(table, IDS, mode=mode)), (table,), order=2)


def test_complex_gradients_are_those_of_jax_numpy(table):
    dout = jnp.asarray(np.random.default_rng(3).standard_normal((*IDS.shape, 5))) * (1 + 2j)
    ours, theirs = (jax.vjp(f, table * 1j)[1](dout)[0] for f in (lambda t: take(t, IDS), lambda t: jnp.take(t, IDS, axis=0)))
    assert (ours == theirs).all()


def test_maps_over_ids_are_one_call_and_one_gradient(table):
    ids = jnp.arange(24).reshape(2, 3, 4) % 7
    assert (jax.vmap(jax.vmap(lambda i: take(table, i)))(ids) == table[ids]).all()
    program = str(jax.make_jaxpr(jax.grad(lambda table: jax.vmap(lambda i: take(table, i))(ids).sum()))(table))
    assert program.count("fastembed_add") == program.count("fastembed_look_up") == 1
    assert "scan" not in program
    assert (jax.vmap(lambda i: take(table, i), in_axes=1)(ids) == table[ids.swapaxes(0, 1)]).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_half_precision_are_summed_in_float32(dtype, mode):
    """512 bags of one row: sums in half precision would stop at a power of two."""
    ids, table = np.ones((512, 1), np.int32), jnp.ones((2, 3), dtype)
    dout = jnp.concatenate([jnp.full((1, 3), 2048), jnp.ones((511, 3))]).astype(dtype)
    _, pull = jax.vjp(lambda table: embedding_bag(table, ids, mode=mode), table)
    assert (pull(dout)[0][1] == jnp.asarray(2048 + 511, dtype)).all()


def test_maps_over_tables_offsets_and_gradients(table):
    tables, ids = jnp.stack([table, 2 * table]), jnp.asarray(IDS)
    assert (jax.vmap(take)(tables, ids) == jnp.stack([table[ids[0]], 2 * table[ids[1]]])).all()
    each = jax.vmap(jax.grad(lambda table, i: (take(table, i) ** 2).sum()), in_axes=(None, 0))(table, ids)
    assert (each == jnp.stack([jax.grad(lambda table, i=i: (table[i] ** 2).sum())(table) for i in ids])).all()
    offsets = jnp.array([[0, 1], [0, 2]])
    bags = jax.vmap(lambda i, o: embedding_bag(table, i, o, mode="max"))(ids, offsets)
    assert (bags == jnp.stack([embedding_bag(table, i, o, mode="max") for i, o in zip(ids, offsets, strict=True)])).all()


def test_a_training_loop_that_donates_its_table(table):
    @functools.partial(jax.jit, donate_argnums=0, static_argnums=1)
    def step(table, look_up, ids):
        return table - 0.1 * jax.grad(lambda table: (jnp.sin(look_up(table, ids)) ** 2).sum())(table)

    ours, theirs = jnp.array(table), jnp.array(table)
    for seed in range(20):
        ids = jnp.asarray(np.random.default_rng(seed).integers(0, 7, (4, 3)))
        ours, theirs = step(ours, take, ids), step(theirs, lambda table, ids: table[ids], ids)
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)


@pytest.mark.parametrize("function", [take, embedding, embedding_bag])
def test_an_id_out_of_range_ends_the_computation(function, table):
    text = r"id 7 at position \(1, 0\) is out of range for a table of 7 rows"
    for call in (function, jax.jit(function), jax.grad(lambda table, ids: function(table, ids).sum())):
        with pytest.raises(jax_draws.FAILURES, match=text):
            jax.block_until_ready(call(table, jnp.array([[1, 2], [7, -1]])))
    assert (take(table, IDS) == table[IDS]).all()


@pytest.mark.parametrize(
    ("offsets", "text"),
    [
        ([0, 4], "offsets must lie within the 3 ids, got 4 at position 1"),
        ([1, 2], "offsets must start at 0, got 1"),
        ([0, 2, 1], "offsets must not decrease, got 1 at position 2 after 2"),
    ],
)
def test_invalid_offsets(offsets, text, table):
    with pytest.raises(jax_draws.FAILURES, match=text):
        embedding_bag(table, IDS[0], jnp.array(offsets)).block_until_ready()
    with pytest.raises(ValueError, match=text):
        embedding_bag(table, IDS[0], offsets)


def test_arguments_of_another_kind(table):
    for error, call in [
        (TypeError, lambda: take(table, [1.5])),
        (TypeError, lambda: take(table, jnp.array([True]))),
        (TypeError, lambda: embedding(jnp.ones((2, 2), int), [0])),
        (ValueError, lambda: take(table[0], [0])),
        (ValueError, lambda: take(table, [0], bounds="fill")),
        (ValueError, lambda: embedding_bag(table, [0, 1])),
        (ValueError, lambda: embedding_bag(table, IDS, jnp.array([0]))),
        (ValueError, lambda: embedding_bag(table, IDS[0], jnp.array([[0]]))),
        (IndexError, lambda: take(table, [2**70])),
    ]:
        with pytest.raises(error):
            call()


def test_ids_that_do_not_fit_32_bits(table):
    with jax.enable_x64(False):
        with pytest.raises(IndexError, match=r"id 4294967297 at position \(0,\)"):
            take(np.ones((7, 5), np.float32), np.array([2**32 + 1]))
        assert (take(np.eye(7, dtype=np.float32), np.array([2**32 + 1]), bounds="clip")[0] == np.eye(7)[6]).all()


def test_empty_shapes():
    assert take(jnp.ones((3, 2)), np.zeros((0, 4), int)).shape == (0, 4, 2)
    assert embedding_bag(jnp.ones((3, 2)), [], jnp.zeros(0, int)).shape == (0, 2)
    assert (embedding_bag(jnp.ones((3, 2)), np.zeros((2, 0), int)) == 0).all()
    with pytest.raises(jax_draws.FAILURES, match="a table of 0 rows"):
        take(jnp.ones((0, 2)), [0]).block_until_ready()
    assert jax.grad(lambda table: take(table, [1]).sum())(jnp.ones((3, 0))).shape == (3, 0)


def test_many_threads_at_once():
    table, step = jnp.asarray(np.random.default_rng(4).standard_normal((3000, 64)), "float32"), jax.jit(jax.grad(loss))
    ids = [jnp.asarray(np.random.default_rng(seed).integers(0, 3000, 4096)) for seed in range(8)]
    with fe.threads(2), concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: np.asarray(step(table, i)), ids * 3))
    with fe.threads(1):
        alone = [np.asarray(step(table, i)) for i in ids]
    assert all((a == b).all() for a, b in zip(results, alone * 3, strict=True))


def loss(table, ids):
    return (take(table, ids) ** 3).sum()


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("import os; os.environ['FASTEMBED_BACKEND'] = 'reference'", "needs the C backend"),
        ("import sys; sys.modules['jax'] = None", "needs jax: pip install 'microgpt-fastembed[jax]'"),
    ],
)
def test_what_is_missing_is_named(setting, text):
    script = with_path(f"{setting}\nimport fastembed.adapters.jax")
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert outcome.returncode == 1
    assert text in outcome.stderr.splitlines()[-1]
