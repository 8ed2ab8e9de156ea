"""A folder's images become the right pixels, whatever their size, mode and orientation."""

from pathlib import Path

import numpy as np
import pytest
from image_files import flat, save
from tolerances import RESIZE_LEVELS
from user_errors import error_of

from fastinfogan.data import load_images


def load_one(folder: Path, size: int = 16, channels: int = 3) -> np.ndarray:
    data = load_images("folder", folder, image_size=size, channels=channels, progress=False)
    assert len(data) == 1
    return data.images[0]


@pytest.mark.parametrize("size", [16, 28, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_folder_gives_the_size_and_channels_asked_for(tmp_path, size, channels):
    save(tmp_path / "red.png", flat([255, 0, 0], 40))
    image = load_one(tmp_path, size, channels)
    assert image.shape == (size, size, channels)
    # Grey is the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B.
    np.testing.assert_array_equal(image[5, 5], [255, 0, 0] if channels == 3 else [76])


@pytest.mark.parametrize("size", [0, 8, 48, 256, -32])
def test_folder_refuses_other_sizes(tmp_path, size):
    message = error_of(load_images, "folder", tmp_path, image_size=size)
    assert message.startswith(f"--image-size {size} ") and "16, 28, 32, 64, 128" in message


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_folder_refuses_other_channels(tmp_path, channels):
    message = error_of(load_images, "folder", tmp_path, channels=channels)
    assert message.startswith(f"--channels {channels} ")


def test_folder_crops_the_central_square(tmp_path):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :16, 0], pixels[:, 16:48, 1], pixels[:, 48:, 2] = 255, 255, 255
    save(tmp_path / "wide" / "x.png", pixels)
    save(tmp_path / "tall" / "x.png", pixels.transpose(1, 0, 2))
    for shape in ("wide", "tall"):
        np.testing.assert_array_equal(load_one(tmp_path / shape), flat([0, 255, 0]))


def test_folder_resizes_with_antialiasing(tmp_path):
    checkers = np.indices((64, 64)).sum(0) % 2 * 255
    save(tmp_path / "x.png", checkers.astype(np.uint8))
    inner = load_one(tmp_path, channels=1)[2:-2, 2:-2]
    # Picking pixels would give 0 or 255.
    np.testing.assert_allclose(inner, 127.5, atol=RESIZE_LEVELS)


def test_a_large_jpeg_decoded_at_reduced_scale_matches_the_whole_one(tmp_path):
    from PIL import Image

    y, x = np.indices((600, 900))
    pixels = np.stack([x * 255 // 899, y * 255 // 599, (np.sin(x / 40) * 100 + 128)], -1)
    save(tmp_path / "x.jpg", pixels.astype(np.uint8), quality=95)
    with Image.open(tmp_path / "x.jpg") as image:
        square = image.crop((150, 0, 750, 600))
        whole = np.asarray(square.resize((32, 32), Image.Resampling.BILINEAR))
    difference = np.abs(load_one(tmp_path, 32).astype(int) - whole)
    # The crop may sit half a reduced pixel off: a quarter of one of the 32.
    assert difference.max() <= 8 and difference.mean() < 1.5


def test_folder_applies_the_exif_orientation(tmp_path):
    from PIL import Image

    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :, 0], pixels[16:, :, 2] = 255, 255  # red above blue
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise": the top becomes the right
    save(tmp_path / "x.jpg", pixels, exif=exif, quality=100, subsampling=0)
    image = load_one(tmp_path, 32)
    assert np.abs(image[:, 2:14].astype(int) - [0, 0, 255]).max() < 8
    assert np.abs(image[:, 18:30].astype(int) - [255, 0, 0]).max() < 8


def transparent_palette():
    from PIL import Image

    image = Image.new("P", (16, 16), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])  # 0 red, 1 blue
    return image


def cmyk(*values):
    from PIL import Image

    return Image.new("CMYK", (16, 16), values)


@pytest.mark.parametrize(
    ("file", "make", "options", "expected"),
    [
        ("rgba.png", lambda: flat([255, 0, 0, 0]), {}, [255, 255, 255]),
        ("half.png", lambda: flat([0, 0, 0, 128]), {}, [127, 127, 127]),
        ("opaque.webp", lambda: flat([0, 0, 0, 255]), {"lossless": True}, [0, 0, 0]),
        ("la.png", lambda: flat([0, 64]), {}, [191, 191, 191]),
        ("palette.png", transparent_palette, {}, [0, 0, 255]),
        ("see_through.png", transparent_palette, {"transparency": 1}, [255, 255, 255]),
        ("colour_key.png", lambda: flat([1, 2, 3]), {"transparency": (1, 2, 3)}, [255] * 3),
        ("white.tif", lambda: cmyk(0, 0, 0, 0), {}, [255, 255, 255]),
        ("red.tif", lambda: cmyk(0, 255, 255, 0), {}, [255, 0, 0]),
        ("red.jpg", lambda: cmyk(0, 255, 255, 0), {"quality": 100}, [255, 0, 0]),
        ("bits.png", lambda: flat(1).astype(bool), {}, [255, 255, 255]),
        ("deep.png", lambda: np.full((16, 16), 25700, np.uint16), {}, [100, 100, 100]),
        ("deep.tif", lambda: np.full((16, 16), 65535, np.uint16), {}, [255, 255, 255]),
        ("deep_big_endian.tif", lambda: np.full((16, 16), 257, ">u2"), {}, [1, 1, 1]),
        ("deep32.tif", lambda: np.full((16, 16), 51400, np.int32), {}, [200, 200, 200]),
    ],
)
def test_folder_converts_every_kind_of_pixel(tmp_path, file, make, options, expected):
    save(tmp_path / file, make(), **options)
    tolerance = 2 if file.endswith(".jpg") else 0
    image = load_one(tmp_path).astype(int)
    assert np.abs(image - expected).max() <= tolerance
    grey = load_one(tmp_path, channels=1).astype(int)
    assert np.abs(grey - np.dot(expected, [0.299, 0.587, 0.114])).max() <= tolerance + 1


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((16, 16), 0.5, np.float32), "floating-point"),
        (np.full((16, 16), 70000, np.int32), "outside 0 to 65535"),
        (np.full((16, 16), -1, np.int32), "outside 0 to 65535"),
    ],
)
def test_folder_refuses_pixels_of_unknown_range(tmp_path, pixels, reason):
    save(tmp_path / "x.tif", pixels)
    assert reason in error_of(load_images, "folder", tmp_path)
