"""The check of a CPU: what it runs, what it keeps, and that the tables follow from its files."""

from __future__ import annotations

import json

import pytest
import torch

from bench import machine
from bench.cpu_check import __main__ as command
from bench.cpu_check import report, starts
from bench.harness import spread
from fastinfogan.kernels import native_module


def subject(amp, seconds, **ratios):
    return {
        "says": "", "amp": amp, "seconds": spread(seconds), "images_per_s": 512.4,
        "floor_fraction": 0.5, "memory": {"peak_bytes": 700_000_000},
        "ratio_to": {name.replace("_", "-"): spread([ratio]) for name, ratio in ratios.items()},
    }  # fmt: skip


def measured():
    on = {
        "hardware": {"cpu": "Some CPU", "threads": 2, "cpu_code": "AVX512"},
        "versions": {"torch": "2.14.1"}, "commit": "0123456789", "date": "2026-01-02T03:04:05",
    }  # fmt: skip
    subjects = {
        "tuned": subject(False, [0.12, 0.13, 0.14]),
        "tuned-amp": {"says": "", "amp": True, "skipped": "no bfloat16"},
        "reference": subject(False, [0.2, 0.25, 0.3], tuned=0.52),
        "ours": subject(False, [0.1, 0.1, 0.1], tuned=1.3, reference=2.5),
        "ours-amp": {"says": "", "amp": True, "skipped": "no bfloat16"},
    }
    preset = {"on": on, "batch": 128, "subjects": subjects}
    names = ("first_iteration", *starts.ANSWERS)
    return {
        "presets": {"mnist": preset}, "instructions": {"amx_bf16": False, "avx512_bf16": True},
        "starts": {"on": on} | {name: spread([0.25, 0.5, 0.75]) for name in names},
    }  # fmt: skip


ROW = (
    "| `mnist`, 128 | 130 [125, 135] | 250 [225, 275] | 100 [100, 100] | 512 | 1.30 [1.30, 1.30] | "
    "2.50 [2.50, 2.50] | 50% | 700 (700) |"
)


def test_a_table_states_the_peer_first():
    text = report.tables([measured()])
    assert ROW in text
    assert "AVX-512 bf16; torch 2.14.1, commit 0123456, 2026-01-02, n = 3 rounds" in text
    assert "first iteration (`digits`): 0.50 s [0.38, 0.62]." in text
    assert "`--amp`, batch" not in text  # nothing was measured
    head = next(line for line in text.splitlines() if line.startswith("| float32"))
    assert head.index("× tuned") < head.index("× reference")


def test_half_precision_is_held_against_the_peer_in_half_precision():
    found = measured()
    subjects = found["presets"]["mnist"]["subjects"]
    subjects["tuned-amp"] = subject(True, [0.06])
    subjects["ours-amp"] = subject(True, [0.03], tuned=4.1, tuned_amp=2.0, reference=8.0)
    text = report.tables([found])
    assert "| `mnist`, 128 | 60 [60, 60] | 250 [225, 275] | 30 [30, 30] | 512 | 2.00" in text


def test_in_short_each_cpu_has_a_line():
    assert report.in_short([measured()]) == (
        "* Some CPU, AVX512, 2 threads: `mnist` 100 ms, 1.30 × tuned. First iteration 0.5 s "
        "after the\n  command."
    )


def test_the_pages_follow_from_the_files():
    for path, text in command.pages().items():
        page = path.read_text()
        assert report.between_marks(page, text) == page


def test_the_tables_are_written_where_they_belong(tmp_path, monkeypatch):
    page, short = tmp_path / "page.md", tmp_path / "short.md"
    for path in (page, short):
        path.write_text(f"before\n{report.BEGIN}old\n{report.END}after\n")
    monkeypatch.setattr(command, "DOCS", page)
    monkeypatch.setattr(command, "README", short)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "cpu-some.json").write_text(json.dumps(measured()))
    assert command.main(["--tables"]) == 0
    text = page.read_text()
    assert ROW in text and "old" not in text
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "1.30 × tuned" in short.read_text()


def test_a_processor_that_was_kept_to_less_than_it_has_is_said_to_be(monkeypatch):
    for name in machine.NARROWING:
        monkeypatch.delenv(name, raising=False)
    assert "kept_to" not in machine.hardware(torch.device("cpu"))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    kept = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert machine.hardware(torch.device("cpu"))["kept_to"] == kept
    found = measured()
    found["presets"]["mnist"]["on"]["hardware"] |= {"cpu_code": "AVX2", "kept_to": kept}
    assert "**Some CPU**, 2 threads, kept to AVX2, bfloat16" in report.tables([found])
    assert report.in_short([found]).startswith("* Some CPU, kept to AVX2, 2 threads: ")


def test_processors_of_one_name_have_files_of_their_own():
    hardware = measured()["presets"]["mnist"]["on"]["hardware"]
    assert machine.cpu_file("cpu", hardware) == "cpu-some-cpu-2-threads-avx512.json"
    assert (
        machine.cpu_file("cpu", hardware | {"cpu_code": "AVX2"})
        == "cpu-some-cpu-2-threads-avx2.json"
    )


def test_what_is_measured_is_kept(tmp_path, monkeypatch):
    """Iterations as training measures them; a first start that reads the disk doesn't count."""
    out, taken = tmp_path / "found.json", iter(range(100))
    monkeypatch.setattr(starts, "seconds_to_first_iteration", lambda *_: float(next(taken)))
    monkeypatch.setattr(starts, "_seconds", lambda *_: 0.1)
    asked = []

    def training(arguments):
        asked.append(arguments)
        content = {name: part for name, part in measured().items() if name == "presets"}
        out.write_text(json.dumps(content))
        return 0

    monkeypatch.setattr(command.training, "main", training)
    assert command.main(["--presets", "mnist", "--rounds", "3", "--out", str(out)]) == 0
    (arguments,) = asked
    assert {"tuned", "tuned-amp", "reference", "ours", "ours-amp"} < {*arguments}
    assert arguments[arguments.index("--rounds") + 1] == "3"
    found = json.loads(out.read_text())
    assert found["starts"]["first_iteration"]["min"] == 1.0
    assert found["starts"]["refused_value"]["n"] == 3
    native, _ = native_module.find()
    assert found["instructions"] == {
        **native.cpu_features(), "half_products": native.HALF_PRODUCTS, "openmp": native.OPENMP,
    }  # fmt: skip


@pytest.mark.slow
def test_the_whole_check_on_narrow_networks(tmp_path):
    out = tmp_path / "found.json"
    assert command.main(["--tiny", "--out", str(out)]) == 0
    assert report.tables([json.loads(out.read_text())])
