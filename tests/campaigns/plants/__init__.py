"""Faults on purpose in C, and the sanitizers called as the Makefile calls them."""
