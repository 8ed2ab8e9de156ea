"""``animate``: codes that move in time, written as an animation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

from fastinfogan.cli.arguments import SourcePath, output_file, valid_seed, writing
from fastinfogan.config import unset_as
from fastinfogan.errors import UserError
from fastinfogan.tell import on_stderr

if TYPE_CHECKING:
    from fastinfogan.results.generator import TrainedGenerator


@dataclass(frozen=True)
class Animate:
    """Vary a code in time while all else stays the same: an animation that begins again at its end.

    A continuous code goes back and forth, two go round a circle (the first as a cosine, the second
    as a sine), and the categories of a categorical one follow one another. Each image is another
    sample; the categories of a code that isn't varied stand in the columns.
    """

    source: SourcePath
    """Run directory, or a generator.safetensors."""
    code: Annotated[Optional[str], unset_as("CODE", "an animation for each")] = None
    """Code to vary, e.g. c2, or two continuous ones, e.g. c2,c3."""
    output: Annotated[Optional[Path], unset_as("FILE", "animation_CODE.gif here")] = None
    """Where to write: a .gif (of 256 colours), a .webp or an .apng."""
    set: str = ""
    """Codes to set by hand, e.g. c1=3."""
    rows: int = 4
    """Rows of samples."""
    columns: Annotated[Optional[int], unset_as("INT", "one per category, else 10")] = None
    """Samples in a row."""
    low: Annotated[Optional[float], unset_as("FLOAT", "-2.0")] = None
    """One end of a continuous code."""
    high: Annotated[Optional[float], unset_as("FLOAT", "2.0")] = None
    """Its other end."""
    seed: int = 0
    """Of noise and codes."""
    frames: Annotated[Optional[int], unset_as("INT", "80")] = None
    """Pictures of a continuous code's turn; a discrete code has one for each value."""
    seconds: Annotated[Optional[float], unset_as("FLOAT", "4; a discrete code 0.5 per value")] = (
        None
    )
    """How long until it begins again."""
    scale: Annotated[
        Optional[int], unset_as("INT", "2 if then at most 1000 pixels wide, else 1")
    ] = None
    """How many pixels wide and high each of the generator's becomes."""

    def __call__(self) -> int:
        from fastinfogan.results.animation_file import ENDINGS, save_animation
        from fastinfogan.results.run import open_generator

        if self.output is not None:
            output_file(self.output, *ENDINGS)
        valid_seed(self.seed)
        generator = open_generator(self.source)
        for codes in self._asked(generator):
            scene = generator.animate(codes, **self._settings(generator, codes))
            names = "_".join(generator.spec.names[code] for code in codes)
            output = self.output or Path(f"animation_{names}.gif")
            with writing(output_file(output, *ENDINGS)):
                save_animation(output, scene, on_stderr)
            print(output, flush=True)
        return 0

    def _asked(self, generator: TrainedGenerator) -> list[list[int]]:
        """The codes of each animation."""
        if self.code is not None:
            return [[generator.code_index(name, "--code") for name in self.code.split(",")]]
        fixed = generator.parse_codes(self.set)
        left = [[code] for code in range(len(generator.spec.names)) if code not in fixed]
        if not left:
            raise UserError(f"--set {self.set}: sets every code, and none is left to vary")
        if self.output is not None and len(left) > 1:
            raise UserError(f"--output {self.output}: name the code that it shows with --code")
        return left

    def _settings(self, generator: TrainedGenerator, codes: Sequence[int]) -> dict[str, Any]:
        """What the animation is given beside its codes."""
        turning = {"frames": self.frames, "low": self.low, "high": self.high}
        turning = {name: value for name, value in turning.items() if value is not None}
        if all(generator.spec.codes[code].is_discrete for code in codes):
            for flag, value in turning.items() if self.code is not None else ():
                shown = ",".join(generator.spec.names[code] for code in codes)
                raise UserError(f"--{flag} {value:g}: it is for continuous codes; not for {shown}")
        return {
            **turning,
            "rows": self.rows,
            "columns": self.columns,
            "seed": self.seed,
            "fixed": generator.parse_codes(self.set),
            "seconds": self.seconds,
            "scale": self.scale,
        }
