"""The image formats that are read: their suffixes, and whether this Pillow has their decoder."""

from __future__ import annotations

import functools
import importlib
import importlib.util

# Pillow's names -> suffixes. Left out are decoders that run programs (EPS), read what is no picture
# to learn from (icons, layered drawings) or are rarely tested.
FORMATS = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "PNG": ("png", "apng"),
    "WEBP": ("webp",),
    "BMP": ("bmp",),
    "DIB": ("dib",),
    "TIFF": ("tif", "tiff"),
    "GIF": ("gif",),
    "AVIF": ("avif",),
    "HEIF": ("heic", "heif", "hif"),
    "JPEG2000": ("jp2", "j2k", "j2c", "jpc", "jpf", "jpx"),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
    "QOI": ("qoi",),
    "TGA": ("tga",),
    "PCX": ("pcx",),
}
# Their files begin with next to nothing of their own: only a file that is called so may be one.
_BY_SUFFIX = ("DIB", "TGA", "PCX")
# What Pillow may have been built without: format -> what it calls the library.
_LIBRARIES = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
_HEIF_PACKAGE = "pillow_heif"
HEIF_HINT = "pip install -e '.[heic]' reads them"
# What stands at the beginning of HEIC files, from the fifth byte on.
_HEIF_STARTS = tuple(b"ftyp" + brand.encode() for brand in "heic heix heim heis hevc hevx".split())

_FORMAT_OF = {suffix: name for name, suffixes in FORMATS.items() for suffix in suffixes}
# Pictures that nothing here reads: worth a word where a folder holds no others.
_UNREAD = frozenset(
    "ai arw cr2 cr3 dcm dds dng emf eps exr fit fits hdr icns ico indd jxl jxr nef nii orf pfm "
    "psd raf raw rw2 sgi svg svgz tfrecord wmf xcf".split()
)


def suffix_of(name: str) -> str:
    """What stands behind the last dot of a file's name, in lower case; "" if that is no suffix."""
    stem, dot, suffix = name.rpartition(".")
    suffix = suffix.lower()
    return suffix if stem and dot and suffix.isalnum() and len(suffix) <= 8 else ""


@functools.cache
def readable(suffix: str) -> bool:
    """Whether files with that suffix (of ``suffix_of``) are images that can be read here."""
    return suffix in _FORMAT_OF and _has_decoder(_FORMAT_OF[suffix])


def readable_by_content(suffix: str, path: str) -> bool:
    """Whether a file whose suffix is that of a format without decoder here is of another one.

    Telephones and those who rename files call a JPEG .heic.
    """
    if suffix not in _FORMAT_OF:
        return False
    from PIL import Image

    try:
        with Image.open(path, formats=_decoders()):
            return True
    except Exception:  # of a dozen kinds
        return False


def check_heif(data: bytes) -> None:
    """Refuse what is HEIC, whatever it is called, where nothing here reads that.

    Raises:
        ValueError: it is, and what would read it.
    """
    if data[4:12] in _HEIF_STARTS and not _has_decoder("HEIF"):
        raise ValueError(f"a HEIC image; {HEIF_HINT}")


def is_picture(suffix: str) -> bool:
    """Whether that is a suffix of pictures, readable or not."""
    return suffix in _FORMAT_OF or suffix in _UNREAD


def hint(suffix: str) -> str:
    """What would make files with that suffix readable; "" if nothing here does."""
    return HEIF_HINT if suffix in FORMATS["HEIF"] else ""


def decoders(name: str) -> tuple[str, ...]:
    """Pillow's names of the formats that the content of a file of that name may be in.

    Any format that shows in the content, for suffixes are often wrong.
    """
    own = _FORMAT_OF.get(suffix_of(name))
    return (*_decoders(), own) if own in _BY_SUFFIX else _decoders()


@functools.cache
def _decoders() -> tuple[str, ...]:
    from PIL import Image

    if _has_decoder("HEIF"):
        importlib.import_module(_HEIF_PACKAGE).register_heif_opener()
    Image.init()
    return tuple(
        name
        for name in FORMATS
        if name in Image.OPEN and name not in _BY_SUFFIX and _has_decoder(name)
    )


def _has_decoder(name: str) -> bool:
    if name == "HEIF":
        return importlib.util.find_spec(_HEIF_PACKAGE) is not None
    if name not in _LIBRARIES:
        return True
    from PIL import features

    library = _LIBRARIES[name]
    known = {*features.modules, *features.codecs}  # by this version of Pillow
    return library in known and bool(features.check(library))


_HEIC = ", heic" if _has_decoder("HEIF") else ""
EXPECTED = f"image files (jpg, png, webp, gif, tiff, bmp, avif{_HEIC}, ppm and others)"
