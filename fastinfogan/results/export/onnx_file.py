"""generator.onnx: made, run by onnxruntime, and written only if the images are ours."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fastinfogan.errors import UserError, one_line
from fastinfogan.files import atomic_write
from fastinfogan.model.latent_spec import Latents
from fastinfogan.results.generator import TrainedGenerator
from fastinfogan.results.generator_file import read_generator

ALLOWED = 1e-5  # between onnxruntime's images and ours, black 0 and white 1
FACTOR = 4  # times our own rounding: another order of summation has another error, of either sign
CHECKED = (9, 1)  # images at a time: the model must take any number


def write_onnx(path: Path, content: bytes, latents: bool = False) -> None:
    """Write a generator as ONNX; the file is there whole and right, or not at all.

    Args:
        path: the file.
        content: of a generator file.
        latents: as for ``onnx_model``.

    Raises:
        UserError: what writes or checks ONNX isn't installed, or onnxruntime's images are others.
        OSError: the file can't be written.
    """
    try:
        import onnx

        from fastinfogan.results.export.onnx_graph import onnx_model
    except ImportError as error:
        raise missing(error, latents) from None
    model = onnx_model(content, latents)
    onnx.checker.check_model(model, full_check=True)
    made = model.SerializeToString()
    problem = check_onnx(made, read_generator(content), latents)
    if problem is not None:
        raise UserError(f"{path} is not written: {problem}")
    atomic_write(path, made)


def check_onnx(model: bytes, trained: TrainedGenerator, latents: bool = False) -> str | None:
    """What is wrong with an ONNX model, in words; None if its images are the generator's.

    Args:
        model: of ``onnx_model``.
        trained: the generator, on the CPU.
        latents: as for ``onnx_model``.

    Raises:
        UserError: onnxruntime isn't installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise missing(error, latents) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    for count in CHECKED:
        drawn = trained.latents(count)
        expected = _images(trained, trained.generator, drawn, torch.float32)
        try:
            session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
            (images,) = session.run(["images"], _inputs(trained, drawn, latents))
        except Exception as error:  # onnxruntime's are of many types
            return f"onnxruntime can't run it: {one_line(error)}"
        if images.shape != expected.shape:
            return f"onnxruntime's images are {images.shape}, not {expected.shape}"
        off, allowed = np.abs(images - expected).max(), ALLOWED
        if not off <= allowed:  # a large network may round by more than that
            exact = copy.deepcopy(trained.generator).double()
            own = np.abs(_images(trained, exact, drawn, torch.float64) - expected).max()
            allowed = max(allowed, FACTOR * own)
        if not off <= allowed:
            return (
                f"onnxruntime's images differ from those of sample by {off:.1e} of the range from "
                f"black to white; rounding explains {allowed:.1e}"
            )
    return None


def missing(error: ImportError, latents: bool) -> UserError:
    """What to say where a library isn't installed; ``latents`` as for ``onnx_model``."""
    asked = "onnx-latents" if latents else "onnx"
    return UserError(f"--format {asked}: {one_line(error)}; pip install 'fastinfogan[onnx]' has it")


def _images(
    trained: TrainedGenerator, generator: nn.Module, drawn: Latents, dtype: torch.dtype
) -> np.ndarray:
    low, high = trained.output_range
    with torch.no_grad():
        images = generator(trained.spec.assemble(*drawn).to(dtype))
    return ((images - low) / (high - low)).numpy()


def _inputs(trained: TrainedGenerator, drawn: Latents, latents: bool) -> dict[str, np.ndarray]:
    spec = trained.spec
    if latents:
        return {"latents": spec.assemble(*drawn).numpy()}
    inputs = {"noise": drawn.noise.numpy()} if spec.noise else {}
    for name, code, values in zip(spec.names, spec.codes, drawn.values.T.numpy(), strict=True):
        kind = np.int64 if code.has_categories else np.float32
        inputs[name.split("_")[0]] = values.astype(kind)
    return inputs
