"""Values in the messages of exceptions: each is cut, and a list is cut to its first few.

Shapes and positions are shown whole: they have at most 64 numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Any

_LENGTH = 80  # characters of a value
_BITS = 256  # of an integer that is shown by its digits; Python has no text for one of over 4300
_N_NAMES = 8


def shown(value: Any, form: Callable[[Any], str] = repr, length: int = _LENGTH) -> str:
    """The text of a value, by ``form``, cut to about 80 characters."""
    if isinstance(value, int) and value.bit_length() > _BITS:
        return f"<an integer of {value.bit_length()} bits>"
    try:
        text = form(value)
    except MemoryError:
        raise
    except Exception:  # such an integer in a list; an object whose __repr__ raises
        return f"<{type(value).__name__}>"
    return text if len(text) <= length else f"{text[: length - 3]}..."


def first_few(values: Collection[Any], n: int = 3) -> str:
    """The first values, and how many more there are; "nothing" if there are none."""
    more = f" and {len(values) - n} more" if len(values) > n else ""
    return ", ".join(map(shown, islice(values, n))) + more if values else "nothing"


def listed(values: Iterable[Any]) -> str:
    """Values as the text of a list, of which only the first few are shown."""
    values = list(values)
    return f"[{first_few(values, _N_NAMES)}]" if values else "[]"
