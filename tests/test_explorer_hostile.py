"""Files that the explorer must refuse, in words, before it computes anything with them."""

from __future__ import annotations

import json
import struct

import pytest
from explorers import NO_NODE, NODE, in_node
from generator_files import exported

pytestmark = [
    pytest.mark.skipif(NODE is None, reason=NO_NODE),
    pytest.mark.usefixtures("narrow_presets"),
]
HUGE = 2**53


def parts(content):
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])


def joined(header, tensors):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(tensors)


def described(key, change, keep_digest=False):
    """A change of what the header says under a key of the metadata."""

    def damage(header, tensors):
        words = header["__metadata__"]
        if not keep_digest:
            del words["sha256"]
        value = json.loads(words[key])
        words[key] = json.dumps(change(value) or value)
        return joined(header, tensors)

    return damage


def layer(index, **words):
    return described("architecture", lambda layers: layers[index].update(words))


def code(**words):
    return described("latent_spec", lambda spec: spec["codes"][0].update(words))


def header_word(key, value):
    def damage(header, tensors):
        header["__metadata__"][key] = value
        return joined(header, tensors)

    return damage


def tensor(**words):
    def damage(header, tensors):
        header["layers.0.op.weight"].update(words)
        return joined(header, tensors)

    return damage


def number(value):
    """Another first weight, in a file without a digest."""

    def damage(header, tensors):
        del header["__metadata__"]["sha256"]
        begin = header["layers.0.op.weight"]["data_offsets"][0]
        tensors[begin : begin + 4] = struct.pack("<f", value)
        return joined(header, tensors)

    return damage


def whole_numbers(name):
    """Whole numbers in the place of a tensor, with no scale beside them."""

    def damage(header, tensors):
        del header["__metadata__"]["sha256"]
        begin, end = header[name]["data_offsets"]
        half = (end - begin) // 2
        for other in header.values():
            if "data_offsets" in other and other["data_offsets"][0] >= end:
                other["data_offsets"] = [at - half for at in other["data_offsets"]]
        header[name].update(dtype="I16", data_offsets=[begin, begin + half])
        del tensors[begin + half : end]
        return joined(header, tensors)

    return damage


def flipped(header, tensors):
    tensors[1000] ^= 1
    return joined(header, tensors)


def negative_variance(header, tensors):
    del header["__metadata__"]["sha256"]
    begin = header["layers.0.norm.running_var"]["data_offsets"][0]
    tensors[begin : begin + 4] = struct.pack("<f", -1.0)
    return joined(header, tensors)


def raw(content):
    return lambda header, tensors: content


SCRIPT = "<img src=x onerror=alert(1)>"
HOSTILE = {
    "empty": (raw(b""), "too short"),
    "garbage": (raw(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40), "no safetensors file"),
    "a header of 4 GB": (raw(struct.pack("<Q", 2**32 - 1) + b"{}"), "no safetensors file"),
    "a header of 2^63": (raw(struct.pack("<Q", 2**63) + b"{}" * 9), "no safetensors file"),
    "no text": (raw(joined(b"\xff\xfe{}", b"")), "header is no text"),
    "no JSON": (raw(joined(b"{,}", b"")), "header isn't JSON"),
    "a list": (raw(joined(b"[]", b"")), "header is no object"),
    "no metadata": (raw(joined(b"{}", b"")), "no description of a generator"),
    "deep JSON": (raw(joined(b"[" * 1_000_000, b"")), "header is nested too deeply"),
    "deep words": (header_word("latent_spec", "[" * 100_000), "latent_spec is nested too deeply"),
    "words missing": (header_word("architecture", "{}"), "1 to 64 layers work"),
    "another version": (header_word("format_version", "2"), 'format_version "2", not 1'),
    "cut off": (lambda h, t: joined(h, t[:-1]), "cut off"),
    "something behind": (lambda h, t: joined(h, t + b"0"), "something behind its end"),
    "a flipped bit": (flipped, "its content isn't what its sha256 stands for"),
    "a flipped word": (
        described("training_config", lambda c: {**c, "x": 1}, keep_digest=True),
        "its content isn't what its sha256 stands for",
    ),
    "NaN": (number(float("nan")), 'tensor "layers.0.op.weight" holds NaN'),
    "infinity": (number(float("-inf")), 'tensor "layers.0.op.weight" holds NaN'),
    "a variance below 0": (negative_variance, "variances below 0"),
    "another type": (tensor(dtype="I64"), "neither F32 nor I16"),
    "a huge shape": (tensor(shape=[HUGE, HUGE, HUGE]), "impossible shape"),
    "a shape of 10^12": (tensor(shape=[10**6, 10**6]), "impossible shape"),
    "a negative shape": (tensor(shape=[-1, -64]), "impossible shape"),
    "another shape": (tensor(shape=[74, 64]), "has shape [74,64], not [64,74]"),
    "a place outside": (tensor(data_offsets=[HUGE, HUGE + 64 * 74 * 4]), "impossible place"),
    "a place backwards": (tensor(data_offsets=[64 * 74 * 4, 0]), "impossible place"),
    "overlapping": (tensor(data_offsets=[0, 64 * 74 * 4]), "impossible place"),
    "script as a code": (code(name=SCRIPT), f'a code is called "{SCRIPT}"'),
    "an unknown kind": (code(kind="__proto__"), 'of the unknown kind "__proto__"'),
    "2^53 categories": (code(width=HUGE), "the width of c1_cat10"),
    "noise of 10^9": (
        described("latent_spec", lambda s: s["noise"].update(width=10**9)),
        "its noise",
    ),
    "no codes": (described("latent_spec", lambda s: s.update(codes=[])), "1 to 64 codes work"),
    "whole numbers without a scale": (
        whole_numbers("layers.0.op.weight"),
        'tensor "layers.0.op.weight.scale" is missing',
    ),
    "whole numbers of a norm": (
        whole_numbers("layers.0.norm.weight"),
        'tensor "layers.0.norm.weight" isn\'t F32',
    ),
    "a layer of 10^15": (
        described("architecture", lambda ls: ls[0].update(outputs=[10**15])),
        'the outputs of "layers.0"',
    ),
    "layers that don't fit": (layer(1, inputs=[3]), 'the inputs of "layers.1"'),
    "a layer too many": (
        described("architecture", lambda layers: layers * 40),
        "1 to 64 layers work",
    ),
    "attention": (layer(0, kind="attention"), 'the kind "attention" is unknown'),
    "script as a kind": (layer(0, kind=SCRIPT), "is unknown"),
    "an image of 10^6 pixels a side": (
        layer(1, reshape={"channels": 1, "height": 392, "width": 10**6}),
        'the reshape of "layers.1"',
    ),
    "another crop": (layer(2, padding=[0, 9]), 'the padding of "layers.2"'),
    "a slope of infinity": (
        layer(0, activation={"kind": "relu", "slope": "1e999"}),
        'the slope of "layers.0"',
    ),
    "a toString": (layer(0, activation={"kind": "toString"}), 'activation "toString" is unknown'),
    "another image": (header_word("image_shape", "[3, 28, 28]"), "its image_shape"),
    "an empty range": (header_word("output_range", "[1, 1]"), "its output_range"),
    "labels of nothing": (
        header_word("code_to_label", json.dumps({"c2_uni": ["a"]})),
        "code_to_label doesn't fit",
    ),
    "labels that are objects": (
        header_word("code_to_label", json.dumps({"c1_cat10": [{}] * 10})),
        "code_to_label doesn't fit",
    ),
    "a label of 300 characters": (
        header_word("code_to_label", json.dumps({"c1_cat10": ["x" * 300] * 10})),
        "code_to_label doesn't fit",
    ),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the page's programs say of each file: one process reads them all."""
    from narrow import narrow_presets

    folder = tmp_path_factory.mktemp("hostile")
    with narrow_presets():
        path, _, _ = exported(folder, "narrow-mnist")
    content, requests = path.read_bytes(), [{"file": path}]
    for i, (damage, _) in enumerate(HOSTILE.values()):
        file = folder / f"{i}.safetensors"
        file.write_bytes(damage(*parts(content)))
        requests.append({"file": file})
    whole, *others = in_node(*requests)
    assert whole == {"read": True}
    return dict(zip(HOSTILE, others, strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_words(answers, name):
    assert HOSTILE[name][1] in answers[name].get("refused", f"it isn't: {answers[name]}")


def test_a_digest_covers_words_in_any_language(tmp_path):
    labels = {"c1_cat10": ["ü", "\x7f", "雪", "𝔸", '"', "\\", "\n", "</script>", None, "0"]}
    path, _, _ = exported(tmp_path, "narrow-mnist", code_to_label=labels)
    (answer,) = in_node({"file": path})
    assert answer == {"read": True}
