"""Instructions of short calls and of one piece of each kernel, counted by callgrind."""
