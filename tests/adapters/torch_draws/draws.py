"""A random call: a table, ids, options, and the gradient of the result."""

from typing import NamedTuple

import numpy as np
import torch

FLOATS = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Call(NamedTuple):
    """Arguments of embedding, or with ``bags`` of embedding_bag, and how the call is made."""

    weight: torch.Tensor
    ids: torch.Tensor
    bags: dict | None  # offsets, mode, per_sample_weights, include_last_offset
    options: dict  # padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
    is_owned: bool
    small: int


def draw(seed: int, case: int) -> Call:
    rng = np.random.default_rng([seed, case])
    n_rows, n_cols = int(rng.integers(1, 30)), int(rng.choice([0, 1, 2, 3, 7, 16, 33]))
    is_bag = rng.random() < 0.5
    weight = draw_weight(rng, n_rows, n_cols)
    options = {
        "padding_idx": int(rng.integers(-n_rows, n_rows)) if rng.random() < 0.3 else None,
        "max_norm": float(rng.uniform(0.1, 3)) if rng.random() < 0.2 else None,
        "norm_type": float(rng.choice([1, 2, 2, 3, np.inf])),
        "scale_grad_by_freq": bool(rng.random() < 0.2),
        "sparse": bool(rng.random() < 0.3),
    }
    ids = draw_ids(rng, n_rows, [1, 2][rng.integers(2)] if is_bag else int(rng.integers(4)))
    bags = draw_bags(rng, ids, weight.dtype) if is_bag else None
    return Call(weight, ids, bags, options, bool(rng.random() < 0.3), int(rng.choice([-1, 1 << 21])))


def draw_weight(rng: np.random.Generator, n_rows: int, n_cols: int) -> torch.Tensor:
    """Values of which a few are equal, so that maxima have ties; any layout."""
    values = torch.from_numpy(rng.standard_normal((n_rows, n_cols)).round(int(rng.integers(1, 4))))
    weight = values.to(FLOATS[rng.integers(len(FLOATS))])
    layout = rng.integers(6)
    if layout == 0:
        return weight.t().contiguous().t()
    if layout == 1:
        return torch.cat([weight, weight], dim=1)[:, :n_cols]
    return weight


def draw_ids(rng: np.random.Generator, n_rows: int, n_axes: int) -> torch.Tensor:
    """Ids of any layout; one draw in ten has one that is out of range."""
    shape = tuple(int(rng.choice([0, 1, 2, 3, 5, 8])) if rng.random() < 0.3 else int(rng.integers(1, 9)) for _ in range(n_axes))
    numbers = rng.integers(0, n_rows, shape)
    if rng.random() < 0.1 and numbers.size:
        numbers[np.unravel_index(rng.integers(numbers.size), shape)] = rng.choice([n_rows, -1, n_rows + 7, -(2**31), 2**31 - 1])
    ids = torch.from_numpy(numbers).to([torch.int64, torch.int32][rng.integers(2)])
    layout = rng.integers(4)
    if layout == 0 and n_axes == 2:
        return ids.t().contiguous().t()
    if layout == 1 and n_axes:
        return torch.stack([ids, ids], dim=-1)[..., 0]
    return ids


def draw_bags(rng: np.random.Generator, ids: torch.Tensor, dtype: torch.dtype) -> dict:
    mode = str(rng.choice(["sum", "mean", "max"]))
    has_weights = rng.random() < (0.5 if mode == "sum" else 0.03)
    weights = torch.from_numpy(rng.standard_normal(tuple(ids.shape)).round(1)).to(dtype) if has_weights else None
    if weights is not None and rng.random() < 0.5:
        weights.requires_grad_()
    bags = {"mode": mode, "per_sample_weights": weights, "offsets": None, "include_last_offset": bool(rng.random() < 0.3)}
    if ids.ndim == 1:
        n = len(ids)
        offsets = np.concatenate(([0], np.sort(rng.integers(0, n + 1, int(rng.integers(0, 6))))))
        if bags["include_last_offset"]:
            offsets = np.append(offsets, n)
        bags["offsets"] = torch.from_numpy(offsets).to(ids.dtype)
    return bags
