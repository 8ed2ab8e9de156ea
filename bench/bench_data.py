"""Ingest and feeds: images a second, against decoding alone; and memory that stays flat.

pytest bench/bench_data.py --benchmark-only          # 10,000 images
pytest bench/bench_data.py --benchmark-only --large  # and 200,000

JPEGs of 178 x 218 like CelebA's are generated; few differ, all are files of their own.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.harness import DEVICE
from bench.memory import peak_bytes
from fastinfogan.cores import usable_cores
from fastinfogan.data import ImageData
from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.feeds.feed import Batches
from fastinfogan.data.feeds.open_feed import open_feed
from fastinfogan.data.feeds.resident import ResidentFeed
from fastinfogan.data.ingest import dali
from fastinfogan.data.ingest.decode import decode_blocks
from fastinfogan.data.ingest.encoded import FolderFiles
from fastinfogan.data.ingest.listing import list_images
from fastinfogan.data.ingest.make import ingest
from fastinfogan.data.ingest.sample import ingest_sample
from fastinfogan.data.sources.celeba import PREPROCESS
from fastinfogan.data.sources.folder import files_source
from fastinfogan.device import wait

DIFFERENT = 64
GPU = DEVICE.type == "cuda"
needs_dali = pytest.mark.skipif(
    not dali.available(), reason="DALI is not installed: pip install 'fastinfogan[dali]'"
)
DECODERS = [
    "pillow",
    pytest.param("dali", marks=needs_dali),
    pytest.param(
        "dali-gpu", marks=[needs_dali, pytest.mark.skipif(not GPU, reason="needs a CUDA device")]
    ),
]
SIZES = [10_000, 200_000]


def size_of(request, images: int) -> int:
    """How many images to use instead, as the options say."""
    if images > 10_000 and not request.config.getoption("--large"):
        pytest.skip("only with --large")
    return images // 100 if request.config.getoption("--tiny") else images


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """JPEGs of waves and noise: some 9 kB each, as CelebA's are."""
    from PIL import Image

    random = np.random.default_rng(0)
    y, x = np.mgrid[:218, :178]
    encoded = []
    for _ in range(DIFFERENT):
        waves = [
            128 + 40 * np.sin(x / a + b) + 40 * np.cos(y / c + b) + random.normal(0, 6, x.shape)
            for a, b, c in random.uniform(3, 30, (3, 3))
        ]
        buffer = io.BytesIO()
        Image.fromarray(np.stack(waves, -1).clip(0, 255).astype(np.uint8)).save(
            buffer, "JPEG", quality=85
        )
        encoded.append(buffer.getvalue())
    return encoded


@pytest.fixture(scope="module")
def folders(tmp_path_factory, photos):
    """folder(count): a folder of that many files, made once."""
    made: dict[int, Path] = {}

    def folder(images: int) -> Path:
        if images not in made:
            made[images] = tmp_path_factory.mktemp(f"photos-{images}")
            for number in range(images):
                path = made[images] / f"{number:06}.jpg"
                path.write_bytes(photos[number % DIFFERENT])
        return made[images]

    return folder


def files_in(folder: Path) -> FolderFiles:
    return FolderFiles(folder, [name for name, _, _ in list_images(folder).entries])


@needs_dali
def bench_decode_dali_alone(benchmark, request, photos):
    """Whole images, already read into memory: nothing but DALI's decoder."""
    from nvidia.dali import fn, pipeline_def, types

    images, batch = size_of(request, 10_000), 256
    arrays = [np.frombuffer(data, np.uint8) for data in photos]
    left = iter(())

    def source():
        start, size = next(left)
        return [arrays[(start + i) % DIFFERENT] for i in range(size)]

    @pipeline_def(batch_size=batch, num_threads=usable_cores(), device_id=None)
    def pipeline():
        encoded = fn.external_source(source=source, batch=True)
        return fn.decoders.image(encoded, device="cpu", output_type=types.RGB)

    decoder = pipeline()
    decoder.build()

    def run() -> None:
        nonlocal left
        left = iter([(at, min(batch, images - at)) for at in range(0, images, batch)])
        decoder.reset()
        done = 0
        while done < images:
            done += len(decoder.run()[0])

    rate(benchmark, "decode and ingest", run, images)


@pytest.mark.parametrize("decoder", DECODERS)
def bench_ingest(benchmark, request, folders, tmp_path, monkeypatch, decoder):
    """Files to cache, everything included; the two decoders agree on the first block."""
    images = size_of(request, 10_000)
    folder = folders(images)
    files = files_in(folder)
    first, wanted = (next(decode_blocks(files, PREPROCESS, 0, d)).rows for d in (decoder, "pillow"))
    rows = min(len(first), len(wanted))
    assert np.abs(first[:rows].astype(int) - wanted[:rows]).mean() < 2
    numbers = count()

    def run() -> None:
        monkeypatch.setenv("FASTINFOGAN_CACHE", str(tmp_path / str(next(numbers))))
        wanted = LoadRequest(folder, "train", None, None, progress=False)
        found = ingest(files_source("bench", folder, PREPROCESS), wanted, decoder=decoder)
        assert found.seconds is not None and found.manifest["shape"][0] == images

    rate(benchmark, "decode and ingest", run, images)


def bench_encoded_feed(benchmark, request, folders, tmp_path, monkeypatch, batch):
    """Files to batches while training, everything included; the same rows as ingest's."""
    images = size_of(request, 10_000)
    monkeypatch.setenv("FASTINFOGAN_CACHE", str(tmp_path))
    wanted = LoadRequest(folders(images), "train", None, None, progress=False)
    source = files_source("bench", folders(images), PREPROCESS)
    data = ingest_sample(source, wanted)
    asked = Batches(batch, 0, (-1.0, 1.0), DEVICE)
    feed, resident = open_feed(data, asked), ResidentFeed(ingest(source, wanted).data, asked)
    feed.seek(0)
    feed.prepare()
    assert torch.equal(feed.next(), resident.next())

    def run() -> None:
        for _ in range(images // batch):
            feed.prepare()
            feed.next()
        wait(DEVICE)

    rate(benchmark, "decode and ingest", run, images // batch * batch)


@pytest.mark.parametrize("images", SIZES)
def bench_find_again(benchmark, request, folders, tmp_path, monkeypatch, images):
    """The second time: list the files, find the cache, compare every byte, map it."""
    images = size_of(request, images)
    folder = folders(images)
    monkeypatch.setenv("FASTINFOGAN_CACHE", str(tmp_path))
    wanted = LoadRequest(folder, "train", None, None, progress=False)

    def run():
        return ingest(files_source("bench", folder, PREPROCESS), wanted)

    assert run().seconds is not None
    assert len(run().data) == images
    rate(benchmark, f"find {images} again", run, images)


PEAK = """
import sys
from pathlib import Path
from bench.harness import DEVICE
from bench.memory import peak_bytes
from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.sources.celeba import PREPROCESS
from fastinfogan.data.sources.folder import files_source
from fastinfogan.data.ingest.make import ingest
import torch
folder = Path(sys.argv[1])
request = LoadRequest(folder, "train", None, None, progress=False)
ingest(files_source("bench", folder, PREPROCESS), request)
print(peak_bytes(torch.device("cpu")))
"""


@pytest.mark.parametrize("images", SIZES)
def bench_peak_memory(benchmark, request, folders, tmp_path, images):
    """Of a process of its own that ingests with whatever decoder is there: below 1.5 GB."""
    images = size_of(request, images)
    # bench and tests last, as conftest.py has it: the installed package comes before ./fastinfogan.
    path = "import sys; sys.path += sys.argv[2:]\n"
    here = Path(__file__).parent.parent
    environment = {**os.environ, "FASTINFOGAN_CACHE": str(tmp_path)}

    def run() -> int:
        done = subprocess.run(
            [sys.executable, "-c", path + PEAK, *map(str, (folders(images), here, here / "tests"))],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    folders(images)
    peak = benchmark.pedantic(run, rounds=1)
    benchmark.group = f"ingest {images}, process and all"
    benchmark.extra_info.update(images=images, peak_megabytes=round(peak / 1e6))
    assert peak < 1.5e9


@pytest.mark.parametrize("images", SIZES)
@pytest.mark.parametrize("kind", ["resident", "streamed"])
def bench_feed(benchmark, request, batch, tmp_path, kind, images):
    """One batch, from a file mapped into memory; both kinds give the same bits."""
    images = size_of(request, images)
    path = tmp_path / "images"
    random = np.random.default_rng(0)
    with open(path, "wb") as file:
        for _ in range(images // 100):
            file.write(random.integers(0, 256, 100 * 3072, np.uint8).tobytes())
    rows = np.memmap(path, np.uint8, "c", shape=(images, 32, 32, 3))
    data = ImageData("bench", rows, None, None)
    batches = Batches(batch, 0, (-1.0, 1.0), DEVICE)
    feed, resident = open_feed(data, batches, kind), ResidentFeed(data, batches)

    def run() -> torch.Tensor:
        if feed.prepare is not None:
            feed.prepare()
        rows = feed.next()
        wait(DEVICE)
        return rows

    for one in (feed, resident):
        one.seek(3)
    assert torch.equal(run(), resident.next())

    benchmark.group = f"feed, batch {batch}, 3x32x32"
    benchmark.extra_info.update(images=images, images_per_round=batch)
    benchmark.pedantic(run, rounds=20 if request.config.getoption("--tiny") else 640,
                       warmup_rounds=5)  # fmt: skip
    benchmark.extra_info["peak_megabytes"] = round(peak_bytes(torch.device("cpu")) / 1e6)


def rate(benchmark, group: str, run, images: int) -> None:
    """Time ``run`` and note images a second."""
    benchmark.group = group
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    if benchmark.stats is not None:
        per_second = images / benchmark.stats.stats.min
        benchmark.extra_info.update(images=images, images_per_s=round(per_second))
