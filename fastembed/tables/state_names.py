"""Names in the state of a layer: tables, counts of their look-ups, and the number of calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import _checks
from ..functional.statistics import LOOKUPS

if TYPE_CHECKING:
    from .._typing import Array

DROPOUT_CALLS = "dropout_calls"


def match_names(
    state: Mapping[str, Any], tables: Mapping[str, Array], aliases: Mapping[str, str], strict: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables and the look-up counts of a state, each by the name of the table.

    Parameters
    ----------
    state : mapping of name to array_like
        Names may begin with ``transformer.``.
    tables : mapping of name to ndarray
    aliases : mapping of name to name
        Other names of the tables in checkpoints.
    strict : bool
        Whether a missing or an unexpected name is a KeyError.
    """
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise TypeError(f"state must be a mapping of names to arrays, got {type(state).__name__}")
    known: dict[str, Any] = {}
    counted: dict[str, Any] = {}
    unexpected = []
    for key, value in state.items():
        plain = key.removeprefix("transformer.").removesuffix(LOOKUPS)
        name, found = aliases.get(plain, plain), counted if key.endswith(LOOKUPS) else known
        if key == DROPOUT_CALLS:
            continue
        if name not in tables:
            unexpected.append(key)
        elif name in found:
            raise KeyError(f"{name} is there twice in {_checks.listed(sorted(state))}")
        else:
            found[name] = value
    missing = [name for name in tables if name not in known]
    if strict and (missing or unexpected):
        raise KeyError(f"missing names {missing}, unexpected names {_checks.listed(unexpected)}; expected {list(tables)}")
    return known, counted
