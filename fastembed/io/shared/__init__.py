"""Tables in memory that several processes share: one writes them, any number reads them."""
