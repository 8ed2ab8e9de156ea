"""What this CPU does beside its peer, iterations and starts: ``python -m bench.cpu_check``."""
