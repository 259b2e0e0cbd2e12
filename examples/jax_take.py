"""Time the look-up in JAX and its gradient, of fastembed and of jnp.take: medians in milliseconds.

python examples/jax_take.py
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fastembed.adapters.jax import take

V, D, N, ROUNDS, TURN = 50_257, 768, 8192, 12, 3


def gradient_of(look_up: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(lambda table, ids, dout: jax.vjp(lambda table: look_up(table, ids), table)[1](dout)[0])


def medians(contenders: list[Callable[..., Any]], *arguments: Any) -> list[float]:
    """The median time of a call of each contender, which take turns; their results must agree."""
    first, *others = [call(*arguments) for call in contenders]
    for result in others:
        np.testing.assert_allclose(result, first, rtol=1e-4, atol=1e-4)
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(ROUNDS):
        for call, own in zip(contenders, times, strict=True):
            time.sleep(0.02)  # rest, since threads go on spinning
            for _ in range(TURN):
                start = time.perf_counter()
                call(*arguments).block_until_ready()
                own.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(own) for own in times]


def main() -> None:
    rng = np.random.default_rng(0)
    table = jnp.asarray(rng.standard_normal((V, D), dtype=np.float32))
    dout = jnp.asarray(rng.standard_normal((N, D), dtype=np.float32))
    p = 1 / np.arange(3, V + 3)
    batches = {"uniform ids": rng.integers(0, V, N), "ids by Zipf's law": rng.choice(V, N, p=p / p.sum())}

    def theirs(table: Any, ids: Any, mode: str | None = None) -> Any:
        return jnp.take(table, ids, axis=0, mode=mode)

    def clipped(table: Any, ids: Any) -> Any:
        return theirs(table, ids, "clip")

    for name, drawn in batches.items():
        ids = jnp.asarray(drawn, jnp.int32)
        for what, of, arguments in (("look-up", jax.jit, (table, ids)), ("gradient", gradient_of, (table, ids, dout))):
            default, clip, ours = medians([of(theirs), of(clipped), of(take)], *arguments)
            ratios = f"{default / ours:.2f} and {clip / ours:.2f} times faster"
            print(f"{name}, {what}: jnp.take {default:.2f}, mode clip {clip:.2f}, fastembed {ours:.2f} ms, {ratios}", flush=True)


if __name__ == "__main__":
    main()
