"""The one way to compiled code: `backend` picks, once, the C extension or the reference behind the same calls."""
