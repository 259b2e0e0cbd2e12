"""The names that the model is trained on: names.txt."""
