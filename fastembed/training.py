"""Training runs of the names model: the public name of `fastembed.microgpt.training`."""

from ._interactive import completion
from .microgpt.training import MAX_PARAMETERS, Options, Run, load_model

__all__ = ["MAX_PARAMETERS", "Options", "Run", "load_model"]
__dir__ = completion.names_of(__all__)
