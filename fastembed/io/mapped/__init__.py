"""Tables in mapped files: changed rows, the journal, records of optimisers, locks."""
