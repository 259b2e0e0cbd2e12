"""Hashed ids, and hashed n-grams of a text."""

from .embed import HASHED, hash_answer
from .ngram import FP8_ROW, N_WORDS, NGRAM, WIDTH, ngram_answer

__all__ = ["FP8_ROW", "HASHED", "NGRAM", "N_WORDS", "WIDTH", "hash_answer", "ngram_answer"]
