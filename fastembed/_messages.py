"""Values in the messages of exceptions: each is cut, and a list is cut to its first few.

Shapes and positions are shown whole: they have at most 64 numbers. Warnings are of a caller's line.
"""

from __future__ import annotations

import math
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

_LENGTH = 80  # characters of a value
_BITS = 256  # of an integer that is shown by its digits; Python has no text for one of over 4300
_N_NAMES = 8
_DIGITS = 8  # characters of a limit that is shown whole
_LARGE = 1 << 20  # from which on a power of two is shown as one
_LEAST, _BELOW_ONE = math.ulp(0.0), math.nextafter(1.0, 0.0)
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, invisible formats, surrogates, separators of lines
_PACKAGE = __name__.partition(".")[0]
_JOINERS = "\u200c\u200d"  # formats that some scripts are written with


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


def limit(n: float) -> str:
    """A limit as a text: large powers of two, and numbers below one, as such; few digits."""
    if isinstance(n, float) and not n.is_integer():
        return repr(n) if len(repr(n)) <= _DIGITS else f"{n:.3g}"
    for less, text in ((0, ""), (1, " - 1")):
        power = int(n) + less
        if power >= _LARGE and power & (power - 1) == 0:
            return f"2**{power.bit_length() - 1}{text}"
    return f"{n:.3g}" if isinstance(n, float) and len(repr(n)) > _DIGITS else f"{n}"


def interval(low: float, high: float) -> str:
    """The floats from ``low`` to ``high``, both included, in words."""
    if -math.inf < low and high < math.inf and high != _BELOW_ONE:
        return f"from {limit(low)} to {limit(high)}"
    first = "" if low == -math.inf else "above 0" if low == _LEAST else f"at least {limit(low)}"
    last = "" if high == math.inf else "below 1" if high == _BELOW_ONE else f"at most {limit(high)}"
    return " and ".join(filter(None, (first, last))) or "a number other than NaN"


def first_few(names: Sequence[str], n: int = 3) -> str:
    """The first names, and how many more there are, as a text; "nothing" if there are none."""
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(shown(name, str) for name in names[:n]) + more if names else "nothing"


def counted(n: int, noun: str, form: str = "") -> str:
    """How many there are of what a noun names, which takes an s unless there is one."""
    return f"{n:{form}} {noun if n == 1 else f'{noun}s'}"


def of_names(missing: Iterable[str], unexpected: Iterable[str], expected: Iterable[str]) -> str:
    """How the names of a state differ from those that are expected."""
    parts = [f"{what} names {listed(names)}" for what, names in (("missing", missing), ("unexpected", unexpected)) if names]
    return f"{', '.join(parts)}; expected {listed(expected)}"


def listed(values: Iterable[Any]) -> str:
    """Values as the text of a list, of which only the first few are shown."""
    texts = [shown(value) for value in values]
    return f"[{first_few(texts, _N_NAMES)}]" if texts else "[]"


def printable(text: str) -> str:
    """The text with every character escaped that could move a terminal's cursor or hide another."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _UNSAFE and c not in _JOINERS else c for c in text
    )


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """A warning of the line outside the package that has led here, whatever lies between."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_inside(module: str) -> bool:
    """Whether a module is of the package, or one by which its functions are wrapped or called."""
    return module.partition(".")[0] in (_PACKAGE, "contextlib", "numpy")
