"""Arrays in, arrays out: each function checks its arguments, allocates its result and calls one kernel."""
