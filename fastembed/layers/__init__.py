"""Tables with a call, a row-sparse gradient, and rows that may have pending updates of an optimiser."""
