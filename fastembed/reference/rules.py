"""The update rule of each optimiser for one row, and the sums over a row that rules and norms need.

``w`` is the row, ``g`` its gradient, ``state`` its rows of state, ``s`` the step's scalars
(float64), ``k`` the multiplier of the row's learning rate, ``r`` the rounding to the dtype. Every
operation is rounded once, in the order written here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Row = list[float]
Scalars = dict[str, float]
Rounding = Callable[[float], float]


def _with_l2(w: float, g: float, s: Scalars, r: Rounding) -> float:
    """The gradient of one element plus its L2 decay; sums start from +0, so that -0 becomes 0."""
    g = r(0.0 + g)
    return r(g + r(r(s["l2"]) * w)) if s["l2"] != 0 else g


def _root(x: float) -> float:
    """The square root as C's: NaN of a negative number, which a loaded state may hold."""
    return math.nan if x < 0 else math.sqrt(x)


def sgd(w: Row, g: Row, state: list[Row], s: Scalars, k: float, r: Rounding) -> None:
    """torch.optim.SGD: b = mu b + a1 g; g = g + mu b with nesterov, else b; w = w - lr g"""
    lr, mu, a1 = r(s["lr"] * k), r(s["beta1"]), r(s["alpha1"])
    for d, w_d in enumerate(w):
        g_d = _with_l2(w_d, g[d], s, r)
        if s["beta1"] != 0:
            b = state[0]
            b[d] = r(r(mu * b[d]) + r(a1 * g_d))
            g_d = r(g_d + r(mu * b[d])) if s["nesterov"] != 0 else b[d]
        w[d] = r(w_d - r(lr * g_d))


def adagrad(w: Row, g: Row, state: list[Row], s: Scalars, k: float, r: Rounding) -> None:
    """torch.optim.Adagrad: h = h + g g; w = w - lr g / (sqrt(h) + eps)"""
    lr, eps, (h,) = r(s["lr"] * k), r(s["eps"]), state
    for d, w_d in enumerate(w):
        g_d = _with_l2(w_d, g[d], s, r)
        h[d] = r(h[d] + r(g_d * g_d))
        w[d] = r(w_d - r(r(lr * g_d) / r(r(_root(h[d])) + eps)))


def row_wise_adagrad(w: Row, g: Row, state: list[Row], s: Scalars, k: float, r: Rounding) -> None:
    """FBGEMM's rowwise_adagrad: h = h + mean(g g); w = (1 - decay) w - lr / (sqrt(h) + eps) g

    h is one number for the whole row.
    """
    (h,) = state
    g = [_with_l2(w_d, g_d, s, r) for w_d, g_d in zip(w, g, strict=True)]
    h[0] = r(h[0] + r(sum_powers(g, 2, r) / r(float(len(w))))) if w else h[0]
    rate, kept = r(r(s["lr"] * k) / r(r(_root(h[0])) + r(s["eps"]))), r(1.0 - s["decay"] * k)
    for d, w_d in enumerate(w):
        w[d] = r((r(kept * w_d) if s["decay"] != 0 else w_d) - r(rate * g[d]))


def adam(w: Row, g: Row, state: list[Row], s: Scalars, k: float, r: Rounding) -> None:
    """Adam and AdamW, which differ in their scalars alone.

    w = (1 - decay) w; m = b1 m + a1 g; v = b2 v + (a2 g) g; w = w - (lr m) / (sqrt(v) c + eps)
    """
    lr, eps, correction, kept = r(s["lr"] * k), r(s["eps"]), r(s["correction"]), r(1.0 - s["decay"] * k)
    b1, a1, b2, a2 = (r(s[name]) for name in ("beta1", "alpha1", "beta2", "alpha2"))
    m, v = state
    for d in range(len(w)):
        w_d = r(kept * w[d]) if s["decay"] != 0 else w[d]
        g_d = _with_l2(w_d, g[d], s, r)
        m[d] = r(r(b1 * m[d]) + r(a1 * g_d))
        v[d] = r(r(b2 * v[d]) + r(r(a2 * g_d) * g_d))
        w[d] = r(w_d - r(r(lr * m[d]) / r(r(r(_root(v[d])) * correction) + eps)))


def sparse_adam(w: Row, g: Row, state: list[Row], s: Scalars, k: float, r: Rounding) -> None:
    """torch.optim.SparseAdam, of which only the rows of the gradient take part.

    m = m + a1 (g - m); v = v + a2 (g g - v); w = w - (lr m) / (sqrt(v) + eps)
    """
    lr, eps, a1, a2 = r(s["lr"] * k), r(s["eps"]), r(s["alpha1"]), r(s["alpha2"])
    m, v = state
    for d, w_d in enumerate(w):
        g_d = r(0.0 + g[d])
        m[d] = r(m[d] + r(a1 * r(g_d - m[d])))
        v[d] = r(v[d] + r(a2 * r(r(g_d * g_d) - v[d])))
        w[d] = r(w_d - r(r(lr * m[d]) / r(r(_root(v[d])) + eps)))


RULES: dict[str, Callable[..., None]] = {
    "sgd": sgd,
    "adagrad": adagrad,
    "row_wise_adagrad": row_wise_adagrad,
    "adam": adam,
    "sparse_adam": sparse_adam,
}


def sum_powers(row: Row, p: float, r: Rounding = float) -> float:
    """The sum of |x|^p over a row; the maximum of |x| for p = infinity.

    For d = 0 .. 15, elements d, d + 16, d + 32, ... are added up in order from +0 on. These 16
    partial sums are then added in pairs: j and j + 8, then j and j + 4, j + 2, j + 1.
    """

    def power(x: float) -> float:
        return r(x * x) if p == 2 else abs(x) if p in (1, math.inf) else _pow(abs(x), p)

    def join(a: float, b: float) -> float:
        return r(a + b) if p < math.inf else b if b > a or b != b else a

    parts = [0.0] * 16
    for d, x in enumerate(row):
        parts[d % 16] = join(parts[d % 16], power(x))
    for width in (8, 4, 2, 1):
        parts = [join(parts[j], parts[j + width]) for j in range(width)]
    return parts[0]


def same(x: float, y: float) -> bool:
    """Whether two numbers are equal, or both NaN."""
    return x == y or (math.isnan(x) and math.isnan(y))


def maximum(x: float, y: float) -> float:
    """The larger of two numbers; x if they are equal, and the first NaN if there is one."""
    return x if math.isnan(x) or y <= x else y


def same_bits(x: float, y: float) -> bool:
    """Whether two numbers are equal, or both NaN, and have the same sign: 0 and -0 differ."""
    return same(x, y) and math.copysign(1.0, x) == math.copysign(1.0, y)


def dot(a: Row, b: Row, r: Rounding) -> float:
    """The dot product of two rows, summed in 16 parts as in `sum_powers`."""
    parts = [0.0] * 16
    for d, (x, y) in enumerate(zip(a, b, strict=True)):
        parts[d % 16] = r(parts[d % 16] + r(x * y))
    for width in (8, 4, 2, 1):
        parts = [r(parts[j] + parts[j + width]) for j in range(width)]
    return parts[0]


def sum_of(a: Row, r: Rounding) -> float:
    """The sum of a row, in 16 parts as in `sum_powers`."""
    return dot(a, [1.0] * len(a), r)


def _pow(x: float, p: float) -> float:
    """x**p as C's pow: infinity where Python raises OverflowError."""
    try:
        return float(x**p)
    except OverflowError:
        return math.inf


def norm(row: Row, p: float) -> float:
    """The p-norm of a row, in float64."""
    total = sum_powers(row, p)
    return math.sqrt(total) if p == 2 else total if p in (1, math.inf) else _pow(total, 1.0 / p)


def total_norm(rows: list[Row]) -> float:
    """The 2-norm of some rows together, in float64; the sums of rows are added exactly (fsum)."""
    try:
        return math.sqrt(math.fsum(sum_powers(row, 2) for row in rows))
    except OverflowError:
        return math.inf


def scaled(rows: list[Row], factor: float, r: Rounding) -> list[Row]:
    """Rows times a factor, which is rounded first; -0 becomes 0."""
    return [[r(r(x * r(factor)) + 0.0) for x in row] for row in rows]


def clip_factor(norm: float, max_norm: float, error_if_nonfinite: bool = True) -> float:
    """torch.nn.utils.clip_grad_norm_: the factor that brings gradients of that norm to max_norm.

    It is 1 for gradients that are short enough.
    """
    if error_if_nonfinite and not math.isfinite(norm):
        limit = float(max_norm)
        raise ValueError(f"gradients whose norm is {norm} cannot be scaled to one of {limit}; error_if_nonfinite=False does it")
    factor = float(max_norm) / (norm + 1e-6)
    return 1.0 if factor > 1 else factor
