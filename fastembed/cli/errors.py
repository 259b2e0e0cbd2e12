"""Errors of functions in the words of the command line."""

from __future__ import annotations

# What messages call options of functions, and what a command has for it.
_WORDS = {
    "give format=": "give --to",
    "give encoding=": "give --encoding",
    'give dtype="float32"': "give --dtype float32",
    "numbers_in_names takes": "--numbers-in-names takes",
    "name must say which": "--name must say which",
    "name must be that of": "--name must be that of",
    ": set the layer's vocabulary": ", and FROM has none: name an .npz, .npy or .safetensors file as TO",
    "fastembed.load_vectors": "python -m fastembed convert",
}


def in_words_of_commands(error: BaseException) -> str:
    """The message of an error: its file first, and options by the names that commands have."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = str(error) or type(error).__name__
    for of_function, of_command in _WORDS.items():
        text = text.replace(of_function, of_command)
    return text
