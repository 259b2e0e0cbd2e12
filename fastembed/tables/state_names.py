"""Names in the state of a layer: tables, counts of their look-ups, and the number of calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _checks
from .._messages import of_names
from ..functional.statistics import LOOKUPS

if TYPE_CHECKING:
    from .._typing import Array

DROPOUT_CALLS = "dropout_calls"
# What models in a wrapper (DistributedDataParallel, torch.compile) or with a head put before names.
_PREFIXES = ("module.", "_orig_mod.", "transformer.", "model.")


class IncompatibleKeys(NamedTuple):
    """What loading a state with ``strict=False`` left out, as in PyTorch.

    Attributes
    ----------
    missing_keys : list of str
        Names of tables that the state lacks: these tables are unchanged.
    unexpected_keys : list of str
        Names in the state that are none of the layer's: these were ignored.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]


class Matched(NamedTuple):
    """A state by the names of a layer: tables, counts of look-ups, the number of calls if there."""

    tables: dict[str, Any]
    counts: dict[str, Any]
    n_calls: dict[str, Any]
    left_out: IncompatibleKeys


def match_names(state: Mapping[str, Any], tables: Mapping[str, Array], aliases: Mapping[str, str], strict: bool) -> Matched:
    """The parts of a state by the names of the tables.

    Parameters
    ----------
    state : mapping of name to array_like
        Names may begin with any of ``module.``, ``_orig_mod.``, ``transformer.`` and ``model.``.
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
    n_calls: dict[str, Any] = {}
    unexpected = []
    for key, value in state.items():
        plain = _without_prefixes(key)
        of_table = plain.removesuffix(LOOKUPS)
        name, found = aliases.get(of_table, of_table), counted if plain.endswith(LOOKUPS) else known
        if plain == DROPOUT_CALLS:
            name, found = plain, n_calls
        if name not in tables and found is not n_calls:
            unexpected.append(key)
        elif name in found:
            raise KeyError(f"{_checks.shown(name, str)} is there twice in {_checks.listed(sorted(state))}")
        else:
            found[name] = value
    missing = [name for name in tables if name not in known]
    if strict and (missing or unexpected):
        raise KeyError(of_names(missing, unexpected, tables))
    return Matched(known, counted, n_calls, IncompatibleKeys(missing, unexpected))


def _without_prefixes(key: str) -> str:
    """The name without the prefixes that wrappers of models add, in any order."""
    for prefix in _PREFIXES:
        if key.startswith(prefix):
            return _without_prefixes(key.removeprefix(prefix))
    return key
