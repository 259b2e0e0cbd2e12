"""Many threads on one layer, forks, exits with workers at work; and hours of mixed work."""
