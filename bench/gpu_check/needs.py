"""What the check needs on a machine where nothing can be fetched: refused early, with a list."""

from __future__ import annotations

import importlib.util
import sys

# module: its package. A machine with torch tends to have these.
USUAL = {
    "torch": "torch",
    "triton": "triton",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "pandas": "pandas",
    "matplotlib": "matplotlib",
    "safetensors": "safetensors",
    "filelock": "filelock",
    "rich": "rich",
    "PIL": "pillow",
    "requests": "requests",
    "packaging": "packaging",
    "pytest": "pytest",
    "pytest_benchmark": "pytest-benchmark",
    "xdist": "pytest-xdist",
    "hypothesis": "hypothesis",
    "sortedcontainers": "sortedcontainers",
}
# These it hasn't: they are to be carried there.
CARRIED = {
    "mlxtend": "mlxtend",
    "tyro": "tyro",
    "typeguard": "typeguard",
    "docstring_parser": "docstring-parser",
    "pooch": "pooch",
    "platformdirs": "platformdirs",
}
NATIVE = "fastinfogan.kernels._native"


def missing() -> list[str]:
    """Packages that aren't there, by name; the project's own last."""
    packages = {**USUAL, **CARRIED}
    found = [package for module, package in packages.items() if not _there(module)]
    return [*found, *([] if _there(NATIVE) else ["fastinfogan"])]


def advice(packages: list[str]) -> str:
    """How to bring packages to a machine without a network."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = [f"error: gpu_check: not installed here: {', '.join(packages)}. Carry wheels:"]
    others = [package for package in packages if package != "fastinfogan"]
    if others:
        lines.append(
            f"  pip download --no-deps --only-binary=:all: --python-version {python} "
            f"--platform manylinux_2_28_x86_64 -d wheels {' '.join(others)}"
        )
    if "fastinfogan" in packages:
        lines.append(f"  python{python} -m pip wheel --no-deps -w wheels .    # in the checkout")
    lines.append("and install them there: pip install --no-index --no-deps --target SITE wheels/*")
    return "\n".join(lines)


def _there(module: str) -> bool:
    """Whether a module can be found; only the packages that it lies in are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # of the package that it lies in
        return False
