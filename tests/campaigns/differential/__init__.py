"""The differential campaign: random calls, each compared with fastembed.reference to the bit."""
