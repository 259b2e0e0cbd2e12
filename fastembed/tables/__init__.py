"""Tables: storage, initial values, pending updates of an optimiser, counts of look-ups."""
