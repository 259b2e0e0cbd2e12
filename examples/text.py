"""A real text that is on every machine: the language reference that Python's `help` shows."""

import re
from pydoc_data.topics import topics


def documents() -> list[str]:
    """The topics, each without its markup."""
    return [re.sub(r"[^a-z' ]+", " ", topics[name].lower()) for name in sorted(topics)]


def words() -> list[str]:
    """All words in their order."""
    return " ".join(documents()).split()
