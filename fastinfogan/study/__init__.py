"""Studies: one configuration, many seeds; their statistics, and a choice without labels."""
