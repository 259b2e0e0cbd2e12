"""Files: checkpoints that are written atomically, and tables in mapped files with a journal."""
