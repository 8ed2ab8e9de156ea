"""Studies that are looked at: others' folders are only read, and few seeds make few claims."""

from __future__ import annotations

import errno
import json
import shutil

import pytest
from studies import SMALL, in_this_process

from fastinfogan.cli import main
from fastinfogan.study import collect, curves, folder
from fastinfogan.study.folder import open_study, read_study
from fastinfogan.study.report import table


@pytest.fixture(autouse=True)
def _in_this_process():
    with in_this_process():
        yield


def content(path):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.rglob("*") if p.is_file()}


@pytest.fixture
def read_only(monkeypatch):
    """Nothing of a study can be written; root may write where the permissions say no."""

    def refuse(path, *args):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(folder, "exclusive", refuse)
    for module in (folder, curves):
        monkeypatch.setattr(module, "atomic_write", refuse)


def forget(study):
    path = study / "study.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "found": {}}))


@pytest.fixture
def two(tmp_path, small_study):
    return [shutil.copytree(small_study, tmp_path / name) for name in "ab"]


def test_only_needs_the_folder_that_the_array_shares(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *SMALL, "--seeds", "2", "--only", "1"]) == 2
    says = "--only needs --out: the array's tasks share one study"
    assert says in capsys.readouterr().err and not [*tmp_path.iterdir()]
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    assert "Needs --out" in " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("known", [True, False])
def test_comparing_only_reads(two, read_only, capsys, known):
    if not known:
        forget(two[1])
    before = [content(one) for one in two]
    assert main(["study", "--compare", *map(str, two)]) == 0
    printed = capsys.readouterr()
    assert "mean of" in printed.out
    assert [content(one) for one in two] == before
    told = printed.err.splitlines()
    assert f"{two[0] / 'compared.png'} isn't drawn: Read-only file system" in told[-1]
    assert len(told) == (1 if known else 2)
    assert known or f"{two[1]}: 2 runs looked at now, which study.json doesn't have" in told[0]


def test_where_comparing_may_write_studies_stay_as_they_are(two):
    forget(two[1])
    before = [content(one) for one in two]
    assert main(["study", "--compare", *map(str, two)]) == 0
    after = [content(one) for one in two]
    assert after[0].pop(two[0] / "compared.png") and after == before


@pytest.mark.parametrize("known", [True, False])
def test_a_finished_study_is_shown_from_a_folder_that_can_not_be_written(
    two, read_only, capsys, known
):
    if not known:
        forget(two[0])
    before = content(two[0])
    assert main(["study", "--out", str(two[0])]) == 0
    printed = capsys.readouterr()
    assert "2 of 2 seeds" in printed.out and content(two[0]) == before
    assert "can't be written to (Read-only file system); all is trained" in printed.err
    assert main(["study", "--out", str(two[0]), "--seeds", "3"]) == 2
    err = capsys.readouterr().err
    assert f"error: --out {two[0]} can't be written to: Read-only file system" in err


def test_of_two_studies_that_can_not_be_compared_only_the_error_is_shown(two, capsys):
    for other, says in (
        (two[1] / "seed-0", "is no study"), (two[0], "these are the same study"),
    ):  # fmt: skip
        assert main(["study", "--compare", str(two[0]), str(other)]) == 2
        printed = capsys.readouterr()
        assert not printed.out and printed.err.count("\n") == 1 and says in printed.err
    with pytest.raises(SystemExit):
        main(["study", "--compare", str(two[0])])
    assert "two studies are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "asked", "says"),
    [
        ((0, 1, 2), (0, 1), "the study has seeds 0 to 2; --seeds takes none away"),
        ((1, 4, 5), (4,), "the study has seeds 1, 4 to 5; --seeds takes none away"),
        ((0, 1), (0, 1, 2), None),
        ((0, 1), (5, 6), None),
        ((0, 1), None, None),
        ((0, 1), (0, 1), None),
    ],
)
def test_seeds_join_and_none_goes(tmp_path, small_study, there, asked, says):
    config, told = read_study(small_study).config, []
    open_study(tmp_path / "study", config, there)
    study = open_study(tmp_path / "study", config, asked, told.append)
    assert study.seeds == tuple(sorted({*there, *(asked or ())}))
    assert told == ([] if says is None else [says])


def found_of(count):
    rows = [{"error": 0.1 + 0.01 * i, "neighbourhood": 0.9 - 0.01 * i} for i in range(count)]
    return {
        "seeds": {str(i): {"numbers": row} for i, row in enumerate(rows)},
        "statistics": collect.statistics_of(rows),
        "collapsed": [],
        "chosen": 0 if count else None,
        "chosen_by": "neighbourhood",
        "rank_correlation": -1.0 if count >= 5 else None,
    }


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 8])
def test_the_table_of_few_seeds(small_study, count):
    text = table(read_study(small_study), found_of(count))
    assert (text.count("\n") == 0 and "none of 2 seeds is finished" in text) == (count == 0)
    assert ("over" in text) == (count >= 5)
    assert count < 5 or f"over {count} seeds (-1 is best): -1.00" in text
    if count:
        row = next(line for line in text.splitlines() if line.startswith("  error"))
        assert (row.split()[2] == "-") == (count == 1)
