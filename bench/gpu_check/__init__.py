"""Everything worth knowing on a machine with a GPU, step by step: ``python -m bench.gpu_check``."""
