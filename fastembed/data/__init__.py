"""names.txt, the names that microgpt's model is trained on."""
