"""train/ and test/ in a folder of images: each file's split, and its path without that."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fastinfogan.sizes import counted

TRAIN, TEST, VALIDATION = "train", "test", "validation"
_WORDS = {
    **dict.fromkeys(("train", "training", "trainval"), TRAIN),
    **dict.fromkeys(("test", "testing"), TEST),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), VALIDATION),
}
# The word by itself, or with something before or after that can be told apart from it: seg_train,
# test_set, trainA, val2017.
_WORD = re.compile(
    rf"(?P<before>.*[^a-z])?(?P<word>{'|'.join(sorted(_WORDS, key=len, reverse=True))})"
    r"(?P<after>(?:[^a-z]|set|data|images|imgs?|(?-i:[A-Z])).*)?",
    re.IGNORECASE | re.DOTALL,
)
_SAYS_NOTHING = frozenset(("set", "sets", "data", "images", "img", "imgs", "split", "splits"))


class Layout(NamedTuple):
    """Where the splits of a folder are.

    Attributes:
        depth: which part of a path says the split: 0 for ``train/x.png``.
        parts: TRAIN, TEST, VALIDATION or None (neither) of each folder.
        rests: of each folder, its path without what is common to all and without the split.
        names: of the folders that say each split.
    """

    depth: int
    parts: dict[str, str | None]
    rests: dict[str, str]
    names: dict[str, tuple[str, ...]]

    def chosen(self, split: str) -> str | None:
        """The part that a request for a split gets; None: all images are both splits."""
        if TRAIN not in self.names or len(self.names) == 1:
            return None
        if split == "train":
            return TRAIN
        # Tests that are set as competitions have no labels, and their validation part has.
        classes = {part: set() for part in (TRAIN, TEST, VALIDATION)}
        for folder, part in self.parts.items():
            classes.setdefault(part, set()).add(self.rests[folder].split("/")[0])
        known = {part for part, names in classes.items() if len(names) > 1}
        better = {TRAIN, VALIDATION} <= known and TEST not in known
        return VALIDATION if better or TEST not in self.names else TEST

    def part(self, name: str) -> str | None:
        """The part that a file belongs to."""
        return self.parts[_folder(name)]

    def rest(self, name: str) -> str:
        """The path of a file without the split."""
        rest = self.rests[_folder(name)]
        file = name.rpartition("/")[2]
        return f"{rest}/{file}" if rest else file

    def describe(self, names: Sequence[str]) -> str:
        """How many of the files are in which split, in a line for the user."""
        counts = Counter(self.part(name) for name in names)

        def of(part: str) -> str:
            folders = ", ".join(f"{name}/" for name in self.names[part])
            return f"{counted(counts[part], 'image')} of {folders}"

        test = self.chosen("test")
        if test is None:
            return f"splits: only {', '.join(map(of, self.names))}, to train and to evaluate on"
        line = f"splits: {of(TRAIN)} to train on, {of(test)} to evaluate on"
        rest = [of(part) for part in self.names if part not in (TRAIN, test)]
        if counts[None]:
            outside = next(name for name in names if self.part(name) is None)
            rest.append(f"{counted(counts[None], 'image')} outside of them, such as {outside!r}")
        return f"{line}; left out: {', '.join(rest)}" if rest else line


def find_layout(names: Sequence[str]) -> Layout | None:
    """Whether folders in the paths are splits, and which.

    They are where every image lies in a folder of such a name at the same depth, or where there are
    both a ``train`` and a ``test`` or ``val`` beside whatever else.

    Args:
        names: relative paths of files.
    """
    folders = {name: tuple(name.split("/")) for name in {_folder(name) for name in names}}
    common = _common(folders.values())
    deepest = min(map(len, folders.values()), default=0)
    alone = None
    for depth in range(deepest):
        named = {folder: _split_of(parts[depth]) for folder, parts in folders.items()}
        if not all(named.values()):
            continue
        residues = _residues(named)
        if TRAIN in residues and len(residues) > 1 and _match(residues, strict=False):
            return _layout(folders, named, depth, common)
        if alone is None and set().union(*residues.values()) == {""}:
            alone = depth, named
    if alone is not None:
        return _layout(folders, alone[1], alone[0], common)
    named = {
        folder: _split_of(parts[common]) if len(parts) > common else None
        for folder, parts in folders.items()
    }
    residues = _residues(named)
    if TRAIN in residues and len(residues) > 1 and _match(residues, strict=True):
        return _layout(folders, named, common, common)
    return None


def _layout(
    folders: dict[str, tuple[str, ...]],
    named: dict[str, tuple[str, str] | None],
    depth: int,
    common: int,
) -> Layout:
    residues = _residues(named)
    # trainA, trainB, testA, testB: what is beside the word tells images apart.
    tell_apart = len(residues) > 1 and all(
        len(own) > 1 and own == residues[TRAIN] for own in residues.values()
    )
    rests, words = {}, {part: set() for part in (TRAIN, TEST, VALIDATION) if part in residues}
    for folder, found in named.items():
        parts = folders[folder]
        above, below = parts[common:depth], parts[depth + 1 :]
        if found is not None:
            words[found[0]].add(parts[depth])
            while below[:1] in (parts[depth : depth + 1], (found[0],)):  # seg_train/seg_train/
                below = below[1:]
            above += (found[1],) if tell_apart else ()
        rests[folder] = "/".join((*above, *below))
    parts = {folder: None if found is None else found[0] for folder, found in named.items()}
    return Layout(depth, parts, rests, {part: tuple(sorted(of)) for part, of in words.items()})


def _match(residues: Mapping[str, set[str]], strict: bool) -> bool:
    """Whether names that could be splits' go together: ``bullet_train`` and ``test_tube`` don't.

    Args:
        residues: split -> what else the names of its folders say.
        strict: whether ``train`` and ``test_tube`` don't, either.
    """
    train = residues[TRAIN]
    return all(
        own <= train or (not strict and (own == {""} or train == {""})) for own in residues.values()
    )


def _residues(named: Mapping[str, tuple[str, str] | None]) -> dict[str, set[str]]:
    """Split -> what else the names of its folders say."""
    residues: dict[str, set[str]] = {}
    for part, residue in filter(None, named.values()):
        residues.setdefault(part, set()).add(residue)
    return residues


def _split_of(name: str) -> tuple[str, str] | None:
    """(split, what else the name says) of a folder's name, if it has a word for a split."""
    match = _WORD.fullmatch(name)
    if match is None:
        return None
    beside = re.findall("[^\\W\\d_]+", f"{match['before'] or ''} {match['after'] or ''}")
    residue = " ".join(word for word in beside if word.lower() not in _SAYS_NOTHING)
    return _WORDS[match["word"].lower()], residue


def _common(folders: Iterable[tuple[str, ...]]) -> int:
    """How many leading parts all folders share."""
    depth = 0
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        depth += 1
    return depth


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
