"""make draws-torch: N draws from a seed of calls of the layers, and N runs of the optimisers."""

import argparse
import gc

import torch

from .compare import check
from .steps import check_steps

CHECKS = {"calls": check, "steps": check_steps}

parser = argparse.ArgumentParser(prog="torch_draws", description=__doc__)
parser.add_argument("--n", type=int, default=10_000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--case", type=int, help="this one alone")
parser.add_argument("--only", choices=list(CHECKS))
arguments = parser.parse_args()
torch.sparse.check_sparse_tensor_invariants.disable()
cases = range(arguments.n) if arguments.case is None else [arguments.case]
check_steps(0, 0)  # what it makes PyTorch import has no part in looking for the modules that share a parameter
gc.freeze()
for name in CHECKS if arguments.only is None else [arguments.only]:
    raised = sum(CHECKS[name](arguments.seed, case) for case in cases)
    print(f"{len(cases)} draws of {name} agree with PyTorch, {raised} of them in raising an exception", flush=True)
