"""Functions of arrays: check the arguments, allocate the result, call one kernel."""
