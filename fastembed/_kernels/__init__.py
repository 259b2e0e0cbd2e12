"""The one way to compiled code.

`backend` picks, once, the compiled modules (`on_c`) or the reference behind the same calls.
"""
