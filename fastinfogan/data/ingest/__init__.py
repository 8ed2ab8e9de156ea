"""From a distributor's files to rows of uint8 on disk: found, decoded once, kept."""
