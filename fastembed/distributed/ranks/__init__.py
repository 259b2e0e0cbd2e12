"""The ranks of a run and what they say to each other: over MPI, over gloo, or one rank alone."""
