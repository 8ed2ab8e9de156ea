"""Decoders: DALI and Pillow agree, and each image goes to the one that reads it right."""

import io
import sys

import numpy as np
import pytest
from image_files import encode, photo
from PIL import Image

from fastinfogan.data.ingest import dali, decode, encoded, pillow
from fastinfogan.data.ingest.preprocess import Preprocess

KINDS = {
    "jpeg": lambda: encode(photo(1), quality=90),
    "jpeg, all chroma": lambda: encode(photo(2), quality=95, subsampling=0),
    "jpeg, progressive": lambda: encode(photo(3), progressive=True),
    "jpeg, grey": lambda: encode(photo(4).convert("L")),
    "jpeg, wide": lambda: encode(photo(5, 301, 97)),
    "jpeg, smaller than wanted": lambda: encode(photo(6, 19, 23)),
    "jpeg, far too large": lambda: encode(photo(7, 900, 700)),
    "png": lambda: encode(photo(8), "PNG"),
    "png, grey": lambda: encode(photo(9).convert("L"), "PNG"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop", [None, 128])
def test_decoders_agree_within_two_grey_levels(tmp_path, decoder, channels, crop):
    preprocess = Preprocess(32, channels, crop)
    for number, make in enumerate(KINDS.values()):
        (tmp_path / f"{number}.img").write_bytes(make())
    files = encoded.FolderFiles(tmp_path, [f"{number}.img" for number in range(len(KINDS))])
    told = []
    (block,) = decode.decode_blocks(files, preprocess, 0, decoder, told.append)
    assert block.items == len(KINDS) and block.bad == [] and told == []
    for number, kind in enumerate(KINDS):
        data = files.read(number)
        assert dali.plain_size(data) == Image.open(io.BytesIO(data)).size, kind
        # Straight from the definition: whole image, central square, Pillow's filter.
        image = Image.open(io.BytesIO(data)).convert("L" if channels == 1 else "RGB")
        side = min(*image.size, crop or 10**6)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        wanted = np.asarray(square.resize((32, 32), Image.Resampling.BILINEAR), int)
        difference = np.abs(block.rows[number] - wanted.reshape(32, 32, channels))
        assert difference.mean() < 2, kind


def test_a_jpeg_that_is_far_too_large_is_reduced_while_it_is_decoded(tmp_path, decoder):
    """By either decoder on a CPU: libjpeg does it, and DALI offers no way to ask for it."""
    if decoder == "dali-gpu":
        pytest.skip("a GPU decodes it whole")
    (tmp_path / "x.jpg").write_bytes(encode(photo(1, 2000, 1500)))
    files, preprocess = encoded.FolderFiles(tmp_path, ["x.jpg"]), Preprocess(32, 3)
    assert preprocess.reducible(2000, 1500) and not preprocess.reducible(2000, 255)
    (block,) = decode.decode_blocks(files, preprocess, 0, decoder)
    np.testing.assert_array_equal(block.rows[0], pillow.decode(files.read(0), preprocess))


def test_odd_kinds_of_image_are_left_to_pillow():
    """DALI treats transparency, palettes and depth in its own ways; what is cut short kills it."""
    red = Image.new("RGB", (20, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    good = encode(red)
    odd = {
        "alpha": encode(red.convert("RGBA"), "PNG"),
        "palette": encode(red.convert("P"), "PNG"),
        "16 bits": encode(Image.new("I;16", (20, 20)), "PNG"),
        "transparent colour": encode(red, "PNG", transparency=(255, 0, 0)),
        "cmyk": encode(red.convert("CMYK")),
        "turned": encode(red, exif=exif),
        "webp": encode(red, "WEBP"),
        "cut short": good[:-40],
        "text": b"hello",
        "nothing": b"",
        "markers only": b"\xff\xd8\xff\xe0\x00\x04ab\xff\xd9",
    }
    assert dali.plain_size(good) == (20, 20)
    exif[0x0112] = 1
    assert dali.plain_size(encode(red, exif=exif)) == (20, 20)
    assert {kind: dali.plain_size(data) for kind, data in odd.items()} == dict.fromkeys(odd)


def test_the_decoder_is_dali_where_it_works(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told = []
    monkeypatch.setattr(dali, "available", lambda: True)
    monkeypatch.setattr(dali, "broken", lambda: None)
    assert decode.pick_decoder(told.append) == "dali" and told == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for cores, picked in ((2, "dali-gpu"), (15, "dali-gpu"), (16, "dali"), (64, "dali")):
        monkeypatch.setattr(decode, "usable_cores", lambda cores=cores: cores)
        assert decode.pick_decoder(told.append) == picked
    monkeypatch.undo()
    monkeypatch.setattr(dali, "available", lambda: True)
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)  # makes its import fail
    assert decode.pick_decoder(told.append) == "pillow"
    assert len(told) == 1 and "DALI is installed but does not import (" in told[0]
    monkeypatch.setattr(dali, "available", lambda: False)
    assert decode.pick_decoder(told.append) == "pillow" and len(told) == 1
