"""Studies: one configuration, many seeds; their statistics, and a choice among them without labels."""
