"""The datasets, one file each: where its files are found and how they are read."""
