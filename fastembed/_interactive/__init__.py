"""What interactive sessions show: names that completion offers, tables of HTML in notebooks."""
