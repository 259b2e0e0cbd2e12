"""The record beside a mapped table: which optimiser it has, after how many steps."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import _checks
from ..._kernels.floats import own_floats
from ..._messages import shown
from ..atomic import beside, open_new
from ..errors import CheckpointError

if TYPE_CHECKING:
    from ..formats.tensor_file import Place

_MAX_SIZE = 1 << 20  # bytes
_CHECKSUM = "crc32"
# "table" is the random number in the file of the table; "" if that has none.
NO_RECORD: dict[str, Any] = {"tensor": "", "optimizer": None, "step": 0, "options": {}, "states": {}, "table": ""}


def _is_step(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _checks.INT64_MAX


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 80 and value.isidentifier()


def _are_states(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_name(name) and type(x) is float for name, x in value.items())


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "tensor": ("a name", lambda value: isinstance(value, str)),
    "optimizer": ("a name", _is_name),
    "step": ("a number of steps", _is_step),
    "options": ("a mapping of names to options", lambda value: isinstance(value, dict)),
    "states": ("a mapping of names to numbers", _are_states),
    "table": ("a text", lambda value: isinstance(value, str)),
}


def checked(found: Any) -> dict[str, Any]:
    """A record that was read, without its checksum; ValueError if a field is not valid.

    Records of earlier versions have neither "table" nor a checksum.
    """
    if not isinstance(found, dict):
        raise ValueError(f"it must be a mapping, got {shown(found)}")
    record = {name: value for name, value in found.items() if name != _CHECKSUM}
    if record.keys() == _FIELDS.keys() - {"table"} and _CHECKSUM not in found:
        record["table"] = ""
    elif _CHECKSUM in found and found[_CHECKSUM] != _checksum(record):
        raise ValueError(f"its {_CHECKSUM} is wrong: it has been changed")
    if record.keys() != _FIELDS.keys():
        raise ValueError(f"it must have {', '.join(_FIELDS)}, got {shown(sorted(record))}")
    for name, (what, is_valid) in _FIELDS.items():
        if not is_valid(record[name]):
            raise ValueError(f"{name} must be {what}, got {shown(record[name])}")
    return record


def as_json(record: Any) -> str:
    return json.dumps(record, sort_keys=True)


def _checksum(record: Any) -> int:
    return zlib.crc32(as_json(record).encode())


def write(table: Path, record: Any) -> None:
    """Write the record file atomically."""
    path = beside(table, "optimizer.json")
    with open_new(path, table) as file:
        file.write(json.dumps({**record, _CHECKSUM: _checksum(record)}, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside(path, "new"), path)


@own_floats  # in which Python reads the decimals of numbers
def read(table: Path) -> dict[str, Any]:
    """The record of the optimiser at the last flush."""
    file = beside(table, "optimizer.json")
    try:
        with open(file, "rb") as opened:
            return checked(json.loads(opened.read(_MAX_SIZE)))
    except FileNotFoundError:
        return NO_RECORD
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} does not describe an optimiser: {error!s:.500}") from error


def check_table(path: Path, record: dict[str, Any], place: Place) -> None:
    """CheckpointError if a record is of another table than the one at ``place`` in ``path``.

    A file with a checksum has been written by `checkpoint.save` and not been trained since: before
    a record is written, the checksum is marked as outdated.
    """
    is_trained = place.checksum_at is None
    if record is not NO_RECORD and not (is_trained and record["table"] in ("", place.id)):
        others = f"{beside(path, 'optimizer.json')} and the state beside it"
        raise CheckpointError(f"{others} belong to another table than the one in {path}: remove them to start anew")
