"""The fused operations, each with its mathematics; installs as ``fastinfogan.kernels``."""

if __name__ == "kernels":  # the folder itself, found in the current directory
    # PyPI has a package of this name, which others may be looking for.
    raise ModuleNotFoundError(
        "this is a folder of fastinfogan's checkout; install it (pip install .) and import "
        "fastinfogan.kernels",
        name=__name__,
    )
