"""Cases of layers: drawn options, a few calls, gradients and steps, and all of the state after."""

from __future__ import annotations

from typing import Any

import numpy as np
from common import before_a_gap

import fastembed as fe
from fastembed import reference

from .case import Case
from .draws import ARITHMETIC, Draw, lists
from .functions import draw_bags

_LR = (0.0, 1e-3, 0.1, 1.0)
_DECAY = (0.0, 0.1, 1e-46)  # the last is 0 in float32
OPTIMIZERS: dict[str, dict[str, tuple[Any, ...]]] = {
    "SGD": {
        "lr": _LR, "momentum": (0.0, 0.9, 1e-46), "weight_decay": _DECAY, "nesterov": (False, True),
        "dampening": (0.0, 0.3, 1.5),
    },
    "Adagrad": {
        "lr": _LR, "lr_decay": (0.0, 0.1), "weight_decay": _DECAY, "initial_accumulator_value": (0.0, 0.5),
        "eps": (1e-10, 1e-3),
    },
    "RowWiseAdagrad": {"lr": _LR, "eps": (1e-8, 1e-3), "weight_decay": _DECAY, "weight_decay_mode": ("l2", "decoupled")},
    "Adam": {"lr": _LR, "betas": ((0.9, 0.999), (0.0, 0.0), (0.5, 0.9)), "eps": (1e-8, 1e-3), "weight_decay": _DECAY},
    "AdamW": {"lr": _LR, "betas": ((0.9, 0.999), (0.0, 0.0), (0.5, 0.9)), "eps": (1e-8, 1e-3), "weight_decay": _DECAY},
    "SparseAdam": {"lr": _LR, "betas": ((0.9, 0.999), (0.0, 0.0), (0.5, 0.9)), "eps": (1e-8, 1e-3)},
}  # fmt: skip
for _options in OPTIMIZERS.values():
    _options["maximize"] = (False, True)
_MAKERS = {
    "Embedding": (fe.Embedding, reference.Embedding),
    "EmbeddingBag": (fe.EmbeddingBag, reference.EmbeddingBag),
    "HashEmbedding": (fe.HashEmbedding, reference.HashEmbedding),
    "TokenPositionEmbedding": (fe.TokenPositionEmbedding, reference.TokenPositionEmbedding),
}


def _options(draw: Draw, kind: str, n_rows: int) -> dict[str, Any]:
    """The options of a layer, the same on both sides."""
    dropout = {"dropout": draw.choice((0.0, 0.0, 0.4)), "dropout_seed": draw.randrange(9)}
    if kind == "TokenPositionEmbedding":
        scale, norm = draw.choice((1.0, 1.0, 4.0, 0.3)), draw.choice((None, None, "rms", "layer"))
        return {"token_scale": scale, "norm": norm, "norm_eps": draw.choice((1e-5, 1e-2)), **dropout}
    if kind == "HashEmbedding":
        return {"seed": draw.randrange(9), **dropout}
    options: dict[str, Any] = {"padding_idx": draw.choice((None, None, 0, -1)), "scale_grad_by_freq": draw.maybe(0.3)}
    options["bounds"] = draw.choice(("raise", "raise", draw.bounds()))
    if draw.maybe(0.3):
        options["max_norm"], options["max_norm_in_place"] = draw.choice((0.0, 0.5, 2.0, 1e30)), draw.maybe(0.5)
        options["norm_type"] = draw.choice((2.0, 1.0, float("inf")))
    if kind == "EmbeddingBag":
        options["mode"] = draw.choice(("sum", "mean", "sqrtn", "max"))
        options["scale_grad_by_freq"] &= options["mode"] != "max"
    return options


def _row_options(draw: Draw, kind: str, n_rows: int) -> dict[str, Any]:
    """Which rows an optimiser moves, and how fast, for the first table."""
    rows: dict[str, Any] = {}
    if draw.maybe(0.2):
        rows["trainable_rows"] = [draw.maybe(0.6) for _ in range(n_rows)]
    if draw.maybe(0.2):
        rows["lr_multipliers"] = [draw.choice((0.0, 0.5, 1.0, 3.0)) for _ in range(n_rows)]
    return rows


def _padding(draw: Draw, shape: tuple[int, ...]) -> dict[str, Any]:
    """Lengths or a mask of sequences, or neither."""
    if not shape or draw.maybe(0.6):
        return {}
    if draw.maybe(0.5):
        lengths = np.array([draw.randint(0, shape[-1]) for _ in range(int(np.prod(shape[:-1])))], int)
        return {"lengths": lengths.reshape(shape[:-1])}
    return {"mask": np.array([draw.maybe(0.6) for _ in range(int(np.prod(shape)))], bool).reshape(shape)}


def _call(
    draw: Draw, kind: str, sizes: tuple[int, ...], width: int, options: dict[str, Any]
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The arguments of a call by name, ids first, and the shape of its result."""
    p_outside = 0.0 if options.get("bounds", "raise") == "raise" else 0.3
    if kind == "EmbeddingBag":
        bags = draw_bags(draw, sizes[0], p_outside=p_outside)
        while bags["offsets"] is not None and bags["include_last_offset"] != options.get("include_last_offset", False):
            bags = draw_bags(draw, sizes[0], p_outside=p_outside)
        call = {"ids": bags["ids"], "offsets": bags["offsets"]}
        if options["mode"] != "max" and draw.maybe(0.4):
            call["per_sample_weights"] = draw.numbers(bags["shape"], "float32", "normal")
        return call, (bags["n_bags"], width)
    shape = draw.shape()
    if kind == "HashEmbedding":
        return {"ids": draw.valid_ids(shape, 2**62)}, (*shape, width)
    call = {"ids": draw.ids(shape, sizes[0], p_outside)}
    if kind == "TokenPositionEmbedding":
        if draw.maybe(0.5):
            call["position_ids"] = draw.valid_ids(shape, sizes[1])
        elif shape:
            call["start"] = draw.randint(0, sizes[1] - shape[-1])
        if len(sizes) > 2 and draw.maybe(0.6):
            call["type_ids"] = draw.valid_ids(shape, sizes[2])
        call |= _padding(draw, shape)
    return call, (*shape, width)


def _steps(
    draw: Draw, kind: str, sizes: tuple[int, ...], width: int, dtype: str, options: dict[str, Any]
) -> list[tuple[Any, ...]]:
    """What happens to the layer, one after the other: how, the call, its gradient, the rate.

    Some happen many times, so that rows without a gradient miss many steps.
    """
    gradients, made = draw.choice(("normal", "integers", "denormal", "apart", "odd")), []
    for _ in range(draw.randint(1, 4)):
        call, shape = _call(draw, kind, sizes, width, options)
        how = draw.choice(("call", "fused", "fused", "accumulate", "step"))
        n_times = draw.choice((9, 20, 70)) if how == "fused" and draw.maybe(0.05) else 1
        step = (how, call, draw.laid(draw.numbers(shape, draw.or_wider(dtype), gradients)), draw.choice(_LR))
        made += n_times * [step]
    return made


def _play(layer: Any, optimizer: Any, steps: list[tuple[Any, ...]], convert: Any) -> list[tuple[str, Any]]:
    """The results of the calls."""
    found = []
    for number, (how, call, dout, lr) in enumerate(steps):
        arguments = {name: convert(value) for name, value in call.items()}
        ids = arguments.pop("ids")
        found.append((f"rows {number}", layer(ids, **arguments)))
        optimizer.lr = lr
        if how == "fused":
            optimizer.zero_grad()
            layer.backward(convert(dout), optimizer=optimizer)
        elif how != "call":
            layer.backward(convert(dout))
        if how == "step":
            optimizer.step()
            optimizer.zero_grad()
    return found


def _state(layer: Any, optimizer: Any) -> list[tuple[str, Any]]:
    """All that the package's layer and optimiser hold."""
    found = [(f"table {name}", table) for name, table in layer.state_dict().items() if name != "dropout_calls"]
    for name, grad in sorted(layer.grads().items()):
        found += [(f"ids {name}", grad.ids), (f"gradient {name}", grad.rows)]
    (item,) = optimizer.state_dict()["items"]
    found.append(("steps", item["step"]))
    return [*found, *((f"state {kind} {name}", array) for kind, name, array in _arrays(item))]


def _arrays(item: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """The state arrays of an item; masters that are not set yet are zeros, and not compared."""
    kinds = [kind for kind in sorted(item) if kind not in ("step", "master")]
    return [(kind, name, array) for kind in kinds for name, array in sorted(item[kind].items())] if item["step"] else []


def _reference_state(layer: Any, optimizer: Any, has_state: bool) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [(f"table {name}", table) for name, table in layer.tables.items()]
    for name, grad in sorted(layer.grads().items()):
        found += [(f"ids {name}", grad.ids), (f"gradient {name}", grad.rows)]
    found.append(("steps", optimizer.steps[0]))
    states = sorted(optimizer.state(0).items()) if has_state and optimizer.steps[0] else []
    return [*found, *((f"state {kind} {name}", rows) for kind, arrays in states for name, rows in sorted(arrays.items()))]


def layer(draw: Draw) -> Case:
    kind, dtype, width = draw.choice(tuple(_MAKERS)), draw.dtype(), draw.width() if draw.maybe(0.3) else draw.randrange(6)
    n_tables = 1 if kind != "TokenPositionEmbedding" else draw.choice((2, 2, 3))
    sizes = (draw.randint(1, 9), *(draw.randint(4, 7) for _ in range(n_tables - 1)))
    values = draw.choice(("normal", "normal", "integers", "denormal", "apart", "odd"))
    tables = [draw.numbers((n_rows, width), dtype, values) for n_rows in sizes]
    options, rows = _options(draw, kind, sizes[0]), _row_options(draw, kind, sizes[0])
    if kind == "EmbeddingBag" and draw.maybe(0.3):
        options["include_last_offset"] = True
    name = draw.choice(tuple(OPTIMIZERS))
    settings = {option: draw.choice(choices) for option, choices in OPTIMIZERS[name].items()}
    if dtype in ("float16", "bfloat16"):
        rows |= draw.choice(({}, {"master_rows": True}, {"stochastic_rounding": draw.randrange(2**40)}))
    steps = _steps(draw, kind, sizes, width, dtype, options)

    def made(side: int, arrays: list[Any], **more: Any) -> tuple[Any, Any]:
        maker = _MAKERS[kind][side]
        construct = maker.from_arrays if kind == "TokenPositionEmbedding" else maker.from_pretrained
        of_layer = construct(*arrays, **options, **more)
        module = (fe.optim, reference.optim)[side]
        return of_layer, getattr(module, name)(of_layer, **settings, **rows, **more)

    def ours() -> list[tuple[str, Any]]:
        of_layer, optimizer = made(0, [before_a_gap(table) for table in tables])
        results = _play(of_layer, optimizer, steps, lambda value: value)
        return [*results, *_state(of_layer, optimizer)]

    def like() -> list[tuple[str, Any]]:
        of_layer, optimizer = made(1, [lists(table) for table in tables], dtype=dtype)
        results = _play(of_layer, optimizer, steps, lists)
        has_state = name != "SGD" or settings["momentum"] != 0
        return [*results, *_reference_state(of_layer, optimizer, has_state)]

    played = [(how, call, dout.shape, lr) for how, call, dout, lr in steps[:9]]
    title = f"{kind} {dtype} {sizes} x {width} {values} {options} {name} {settings} {rows} {played}"
    dtypes = {"rows": dtype, "table": dtype, "gradient": ARITHMETIC[dtype], "state": ARITHMETIC[dtype]}
    return Case(title, ours, like, dtypes)
