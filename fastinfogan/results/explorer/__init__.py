"""explorer.html: a generator in one page that moves its codes, offline and without a library."""
