"""Calls that write, disturbed: by signals, by kills, by allocations that fail. All or nothing."""
