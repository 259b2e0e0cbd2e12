"""make torch-draws: N draws from a seed."""

import argparse

from .compare import check

parser = argparse.ArgumentParser(prog="torch_draws", description=__doc__)
parser.add_argument("--n", type=int, default=10_000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--case", type=int, help="this one alone")
arguments = parser.parse_args()
cases = range(arguments.n) if arguments.case is None else [arguments.case]
raised = sum(check(arguments.seed, case) for case in cases)
print(f"{len(cases)} draws agree with PyTorch, {raised} of them in raising an exception")
