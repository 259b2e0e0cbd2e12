"""States of PyTorch's optimisers: their parts, and the options that an optimiser here knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_CHANGE_THE_NUMBERS = ("amsgrad", "maximize", "dampening", "weight_decay")  # of PyTorch's options


def parts(state: Any) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The groups, and the state of each parameter in their order, of PyTorch's ``state_dict``."""
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= set(state) or not isinstance(state["state"], Mapping):
        raise TypeError(f"a state of PyTorch is a mapping with state, a mapping, and param_groups, got {state!r:.80}")
    groups = state["param_groups"]
    if not isinstance(groups, list | tuple) or not all(isinstance(group, Mapping) and "params" in group for group in groups):
        raise TypeError(f"param_groups of a state of PyTorch must be mappings with params, got {groups!r:.80}")
    return list(groups), [state["state"].get(number, {}) for group in groups for number in group["params"]]


def options(
    groups: list[Mapping[str, Any]], checks: Mapping[str, Callable[[str, Any], Any]], kind: str, is_decoupled: bool
) -> list[dict[str, Any]]:
    """The options that a kind of optimiser knows, checked; ValueError if it lacks one that changes the numbers."""
    for group in groups:
        foreign = [name for name in _CHANGE_THE_NUMBERS if group.get(name) and name not in checks]
        if group.get("weight_decay") and group.get("decoupled_weight_decay", is_decoupled) != is_decoupled:
            foreign.append(f"decoupled_weight_decay={not is_decoupled}")
        if foreign:
            raise ValueError(f"a state with {', '.join(foreign)} cannot be taken over by {kind}")
    return [{name: check(name, group[name]) for name, check in checks.items() if name in group} for group in groups]
