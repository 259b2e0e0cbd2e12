"""Small changes of the C and of the argument checks, each of which a test should notice."""
