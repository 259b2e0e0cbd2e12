"""Tables by themselves: where they lie, what they hold at first, which updates are pending, how often rows were looked up."""
