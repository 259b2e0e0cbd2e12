"""Files: checkpoints that are saved whole or not at all, and tables in mapped files with their journal."""
