"""States of PyTorch's optimisers: their parts, and the options that are supported here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import _checks

# Options of PyTorch that change the result, and so must be supported here or off.
_AFFECT_RESULT = ("amsgrad", "weight_decay")


def parts(state: Any) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The groups of a PyTorch ``state_dict``, and the state of each parameter in order."""
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= set(state) or not isinstance(state["state"], Mapping):
        raise TypeError(f"a state of PyTorch is a mapping with state, a mapping, and param_groups, got {_checks.shown(state)}")
    groups = state["param_groups"]
    if not isinstance(groups, list | tuple) or not all(isinstance(group, Mapping) and "params" in group for group in groups):
        raise TypeError(f"param_groups of a state of PyTorch must be mappings with params, got {_checks.shown(groups)}")
    return list(groups), [state["state"].get(number, {}) for group in groups for number in group["params"]]


def options(
    groups: list[Mapping[str, Any]], checks: Mapping[str, Callable[[str, Any], Any]], kind: str, is_decoupled: bool
) -> list[dict[str, Any]]:
    """The supported options of each group, checked; ValueError if one with an effect is not."""
    for group in groups:
        unsupported = [name for name in _AFFECT_RESULT if group.get(name) and name not in checks]
        if group.get("weight_decay") and group.get("decoupled_weight_decay", is_decoupled) != is_decoupled:
            unsupported.append(f"decoupled_weight_decay={not is_decoupled}")
        if unsupported:
            raise ValueError(f"a state with {', '.join(unsupported)} cannot be taken over by {kind}")
    return [{name: check(name, group[name]) for name, check in checks.items() if name in group} for group in groups]
