"""A sample of a source, where all of it is decoded while training: what else needs images."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from fastinfogan.data.dataset import LoadRequest
from fastinfogan.data.images import ImageData
from fastinfogan.data.ingest.decode import pick_decoder
from fastinfogan.data.ingest.encoded import ChosenFiles
from fastinfogan.data.ingest.make import ingest
from fastinfogan.data.ingest.names import mapped
from fastinfogan.data.ingest.source import Source, encoded_items
from fastinfogan.errors import UserError

SAMPLE = 10_000  # images: as many as the measures of a representation ask for


def ingest_sample(source: Source, request: LoadRequest) -> ImageData:
    """Ingest every so many-th image, and leave all of them encoded.

    Args:
        source: its items must be encoded files.
        request: as for ``ingest``.

    Returns:
        At most ``SAMPLE`` images; ``encoded`` has all of them.

    Raises:
        UserError: as ``ingest``; or the items are arrays.
    """
    items = source.open()
    if items.encoded is None:
        raise UserError(
            f"--feed encoded: the images of --dataset {source.dataset} are no files of their own, "
            "but arrays; --feed streamed works"
        )
    files, preprocess, *_ = items.encoded
    decoder = pick_decoder(request.tell)
    chosen = np.arange(items.count)
    if items.count > SAMPLE:
        chosen = np.arange(SAMPLE) * items.count // SAMPLE
    part = encoded_items(
        ChosenFiles(files, chosen.tolist()),
        preprocess,
        annotate=lambda kept: items.annotate(chosen[kept]),
        skipped=items.skipped,
        notes=items.notes,
    )
    sampled = replace(
        source,
        # Its pixels are those of the images in training, whatever decodes these.
        preprocessing={**source.preprocessing, "sample": SAMPLE, "decoder": decoder},
        open=lambda: part,
    )
    data, folder, *_ = ingest(sampled, request, decoder)
    files.names = mapped(files.names, folder, request.tell)
    encoded = items.encoded._replace(decoder=decoder, identity=source.identity)
    # Another file beside the sample is another set of images, too.
    checksum = hashlib.sha256(f"{source.identity} {data.checksum}".encode()).hexdigest()
    return replace(data, encoded=encoded, checksum=checksum)
