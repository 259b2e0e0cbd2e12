"""The benchmark suite: fastembed against each installed library that can do the same work.

``python -m fastembed bench`` runs it. Every answer is checked before anything is timed; peers that
are not installed are listed as absent. Importing this loads nothing but NumPy.
"""

from .peers import PEERS
from .report import as_text, listing, write_json, write_plot, wrong_answers
from .suite import Plan, run
from .workloads import USUAL, WORKLOADS

__all__ = [
    "PEERS",
    "USUAL",
    "WORKLOADS",
    "Plan",
    "as_text",
    "listing",
    "run",
    "write_json",
    "write_plot",
    "wrong_answers",
]
