"""Tables: storage, initial values, updates not applied yet, counts of look-ups, packed rows."""
