"""Branches of the C and of the Cython modules that no test takes, and the written list of them."""
