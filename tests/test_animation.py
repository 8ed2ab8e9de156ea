"""Animations: what each frame shows, that the loop closes, and that the file holds the frames."""

from __future__ import annotations

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import nn

from fastinfogan.cli import main
from fastinfogan.errors import UserError
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.results import animation, animation_file
from fastinfogan.results.animation import make_scene
from fastinfogan.results.animation_file import save_animation
from fastinfogan.results.generator import TrainedGenerator

pytestmark = pytest.mark.usefixtures("narrow_presets")

SPEC = make_spec(2, "cat3,uni,bern,gauss")  # G's input: 2 noise, 3, 1, 1, 1 numbers
PLAIN = make_spec(2, "uni,gauss")
RANGE = (-1.0, 1.0)


class Recorder(nn.Module):
    """A generator that keeps its inputs, and paints them: each image is a ramp from its codes."""

    def __init__(self, channels=1):
        super().__init__()
        self.batches, self.channels = [], channels

    def forward(self, latents):
        self.batches.append(latents)
        tones = latents[:, -4:].sum(dim=1).tanh().view(-1, 1, 1, 1)
        ramp = torch.linspace(-0.5, 0.5, 6 * self.channels).view(1, self.channels, 1, 6)
        return (tones * 0.5 + ramp).expand(-1, -1, 4, -1)


def scene(codes, spec=SPEC, channels=1, **options):
    return make_scene(Recorder(channels).eval(), spec, codes, output_range=RANGE, **options)


def drawn(codes, spec=SPEC, **options):
    """The inputs of every frame: (frames, images, width)."""
    shown = scene(codes, spec, **options)
    assert len(list(shown.frames())) == len(shown.values)
    return torch.stack(shown.generator.batches)


# -- What the frames show --------------------------------------------------------------------------


def test_one_code_goes_to_the_other_end_and_back():
    (values,) = zip(*scene([1], frames=8, low=-1.0, high=3.0).values, strict=True)
    half = math.sqrt(2)
    expected = [-1.0, 1 - half, 1.0, 1 + half, 3.0, 1 + half, 1.0, 1 - half]
    assert values == pytest.approx(expected, abs=1e-12)


def test_two_codes_go_round_a_circle():
    values = scene([3, 1], frames=4, low=-1.5, high=1.5).values
    expected = [(1.5, 0.0), (0.0, 1.5), (-1.5, 0.0), (0.0, -1.5)]
    assert values == tuple(pytest.approx(point, abs=1e-12) for point in expected)


@pytest.mark.parametrize("codes", [[1], [1, 3]])
@pytest.mark.parametrize("frames", [2, 3, 40, 81])
def test_the_way_from_the_last_frame_to_the_first_is_no_longer_than_any(codes, frames):
    values = scene(codes, frames=frames).values
    steps = [math.dist(a, b) for a, b in itertools.pairwise([*values, values[0]])]
    assert steps[-1] <= max(steps[:-1]) + 1e-12


def test_all_but_the_codes_that_vary_are_the_samples_of_the_seed():
    noise, values = PLAIN.sample(6, 7, 0)
    latents = drawn([1], PLAIN, frames=5, rows=2, columns=3, seed=7)
    for frame, point in zip(latents, scene([1], frames=5).values, strict=True):
        values[:, 1] = point[0]
        assert torch.equal(frame, PLAIN.assemble(noise, values))


def test_the_categories_of_a_code_that_does_not_vary_stand_in_the_columns():
    latents = drawn([1], frames=2, rows=2, order=[2, 0, 1])
    assert latents[..., 2:5].argmax(dim=-1).tolist() == [[2, 0, 1, 2, 0, 1]] * 2
    latents = drawn([1], frames=2, rows=1, columns=5)
    assert latents[..., 2:5].argmax(dim=-1).tolist() == [[0, 1, 2, 0, 1]] * 2
    pinned = drawn([1], frames=2, rows=1, fixed={0: 2, 3: 0.5})
    assert pinned.shape[1] == 10
    assert (pinned[..., 2:5].argmax(dim=-1) == 2).all() and (pinned[..., 7] == 0.5).all()


def test_discrete_codes_show_each_value_for_a_frame():
    assert drawn([0], order=[1, 2, 0], rows=1)[..., 2:5].argmax(dim=-1).tolist() == [
        [1] * 10, [2] * 10, [0] * 10,
    ]  # fmt: skip
    assert drawn([2])[:, 0, 6].tolist() == [0.0, 1.0]


def test_captions_name_values_categories_and_matches():
    names = ["cat", None, "dog"]
    shown = scene([1, 3], frames=4, category_to_label=names, order=[2, 0, 1])
    assert shown.captions[:2] == (
        "c2_uni = 2.00; c4_gauss = 0.00; columns: c1_cat3 and what it matches",
        "c2_uni = 0.00; c4_gauss = 2.00; columns: c1_cat3 and what it matches",
    )
    assert shown.labels == ("2\ndog", "0\ncat", "1\nnone")
    assert scene([1], frames=4, low=0.001, high=-0.001, fixed={0: 0}).captions[2:] == (
        "c2_uni = 0.00", "c2_uni = 0.00",
    )  # fmt: skip
    shown = scene([0], category_to_label=names)
    assert shown.captions == ("c1_cat3 = 0, matches cat", "c1_cat3 = 1, matches none",
                              "c1_cat3 = 2, matches dog")  # fmt: skip
    assert shown.labels == ()
    assert scene([2]).labels == ("0", "1", "2")


def test_frames_are_of_one_size_whatever_their_captions_and_as_large_as_was_asked_for():
    options = {"rows": 1, "columns": 1, "frames": 8, "low": -1000.0, "high": 1000.0}
    assert len({frame.shape for frame in scene([1], **options).frames()}) == 1
    heights = [
        next(scene([1], PLAIN, rows=9, columns=60, frames=2, scale=scale).frames()).shape[:2]
        for scale in (1, 3)
    ]
    assert heights[1][1] == 3 * heights[0][1] == 3 * (60 * 7 + 1)
    assert heights[1][0] - heights[0][0] == 2 * (9 * 5 + 1)


# -- What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "options", "says"),
    [
        ([0, 1], {}, "--code c1_cat3,c2_uni: one code, or a circle through two that are conti"),
        ([1, 2], {}, "and c3_bern isn't"),
        ([1, 1], {}, "--code c2_uni,c2_uni: one code, or a circle through two"),
        ([], {}, "--code : one code, or"),
        ([1, 3, 1], {}, "one code, or a circle through two"),
        ([1], {"fixed": {1: 0.5}}, r"--set c2_uni=0\.5: this is a code that varies"),
        ([1], {"fixed": {0: 3}}, "--set c1_cat3=3: whole numbers"),
        ([1], {"frames": 1}, "--frames 1: 2 to 1000 work"),
        ([1], {"frames": 1001}, "--frames 1001: 2 to 1000 work"),
        ([1], {"scale": 0}, "--scale 0: 1 to 16 work"),
        ([1], {"scale": 17}, "--scale 17"),
        ([1], {"rows": 0}, "--rows 0: with 3 columns 1 to 5461 work"),
        ([1], {"columns": 0}, "--columns 0: 1 to 16384 work"),
        ([1], {"high": math.inf}, "--high inf"),
        ([1], {"seconds": 1.0}, r"--seconds 1: 1\.6 to 4800 work for 80 frames"),
        ([0], {"seconds": 181.0}, r"--seconds 181: 0\.06 to 180 work for 3 frames"),
        ([1], {"seconds": math.nan}, "--seconds nan"),
    ],
)
def test_what_can_not_be_shown_is_refused(codes, options, says):
    with pytest.raises(UserError, match=says):
        scene(codes, **options)


def test_too_large_an_animation_is_refused_before_it_is_drawn(tmp_path, monkeypatch):
    wide = scene([1], PLAIN, rows=1, columns=3000, frames=2)
    with pytest.raises(UserError, match="21,001x.* pixels is too large: 16,383 each way work"):
        save_animation(tmp_path / "x.gif", wide)
    monkeypatch.setattr(animation, "MOST_PIXELS", 70_000)
    long = scene([1], rows=30, columns=30, frames=9, scale=1)
    with pytest.raises(UserError, match="9 frames of .* pixels are too much .*: 1 work; lower --f"):
        save_animation(tmp_path / "x.gif", long)
    assert len(long.generator.batches) == 4  # one frame
    assert not [*tmp_path.iterdir()]


def test_a_pillow_without_webp_is_named_with_what_works(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    with pytest.raises(UserError, match="x.webp: this Pillow has no WebP; .gif and .apng work"):
        save_animation(tmp_path / "x.webp", scene([1], frames=2))


# -- The file --------------------------------------------------------------------------------------


def read(path):
    """Its frames, how long each is shown in milliseconds, and how often: 0 is for ever."""
    with Image.open(path) as file:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(file)]
        file.seek(0)
        durations = []
        for number in range(file.n_frames):
            file.seek(number)
            file.load()
            durations.append(file.info["duration"])
        return frames, durations, file.info["loop"]


@pytest.mark.parametrize("ending", animation_file.ENDINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_file_holds_the_frames_their_time_and_goes_on_for_ever(tmp_path, ending, channels):
    shown = scene([1, 3], channels=channels, frames=7, seconds=1.0, rows=2)
    path = tmp_path / f"x{ending}"
    save_animation(path, shown)
    frames, durations, loop = read(path)
    assert loop == 0 and sum(durations) == 1000 and max(durations) - min(durations) <= 10
    assert len(frames) == 7
    for found, frame in zip(frames, shown.frames(), strict=True):
        expected = np.broadcast_to(frame, (*frame.shape[:2], 3))
        if ending == ".gif" and channels == 3:
            # 256 colours for all frames: each of these has fewer than that of its own.
            assert np.abs(found.astype(int) - expected).mean() < 3
        else:
            np.testing.assert_array_equal(found, expected)
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


def test_all_frames_of_a_gif_share_their_colours(tmp_path):
    """Palettes of their own would make what stands still flicker."""
    shown = scene([1, 3], channels=3, frames=30)
    save_animation(tmp_path / "x.gif", shown)

    def colours(frames):
        return len(set().union(*(np.unique(frame @ [1, 256, 65536]) for frame in frames)))

    assert colours(shown.frames()) > 350
    assert colours(read(tmp_path / "x.gif")[0]) <= 256


@pytest.mark.parametrize("ending", animation_file.ENDINGS)
def test_the_same_command_writes_the_same_bytes(tmp_path, ending):
    for name in ("a", "b"):
        save_animation(tmp_path / f"{name}{ending}", scene([1], channels=3, frames=4))
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


# -- The command -----------------------------------------------------------------------------------


def test_animate_writes_one_code_two_or_all(small_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--rows", "1", "--frames", "4"]
    assert main(["animate", str(small_run), "--code", "c2", *small, "--output", "a.webp"]) == 0
    assert main(["animate", str(small_run), "--code", "c2,c3_uni", *small]) == 0
    assert main(["animate", str(small_run), "--set", "c3=0", *small]) == 0  # c1 and c2 are left
    names = ["a.webp", "animation_c2_uni_c3_uni.gif", "animation_c1_cat10.gif",
             "animation_c2_uni.gif"]  # fmt: skip
    assert capsys.readouterr().out.split() == names
    assert [len(read(name)[0]) for name in names] == [4, 4, 10, 4]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--output x.png", "names ending in .gif, .webp and .apng work"),
        ("--output x.gif", "name the code that it shows with --code"),
        ("--output no/x.gif --code c2", "a folder that exists"),
        ("--code c9", "--code 'c9': no such code"),
        ("--code c2,", "--code '': no such code"),
        ("--code c1 --frames 5", "--frames 5: it is for continuous codes; not for c1_cat10"),
        ("--code c1 --low -1", "--low -1: it is for continuous codes"),
        ("--code c1,c2", "and c1_cat10 isn't"),
        ("--set c1=0,c2=0,c3=0", "none is left to vary"),
        ("--seed -1", "--seed -1"),
    ],
)
def test_mistakes_are_one_line(small_run, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert main(["animate", str(small_run), *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert says in err and err.count("\n") == 1 and not out and not [*tmp_path.iterdir()]


def test_traverse_knows_who_writes_animations(small_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for ending in animation_file.ENDINGS:
        assert main(["traverse", str(small_run), "--code", "c2", "--output", f"x{ending}"]) == 2
        assert "fastinfogan animate writes what moves" in capsys.readouterr().err


def test_help_names_the_defaults(capsys):
    """It does without torch, and so can't ask."""
    with pytest.raises(SystemExit):
        main(["animate", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(TrainedGenerator.animate).parameters.items()
    }
    for name in ("frames", "rows", "low", "high", "seed"):
        rest = said.split(f"--{name} ")[1]
        assert rest.split("(default: ")[1].startswith(f"{defaults[name]})")
    assert f"(default: {animation.TURN:g}; a discrete code {animation.VALUE:g} per value)" in said
    assert f"(default: one per category, else {animation.COLUMNS})" in said
