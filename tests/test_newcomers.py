"""What people try who have only read the README: each gets one line that says what works."""

from __future__ import annotations

import errno

import pytest

from fastinfogan.cli import main

pytestmark = pytest.mark.usefixtures("narrow_presets")


def error_line(capsys, *arguments) -> str:
    """What a command says that can't be done: one line, whoever finds the mistake."""
    try:
        code = main([str(word) for word in arguments])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert code == 2 and not out
    assert err.startswith("fastinfogan: error: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "ending"),
    [
        (("export", "z.onnx"), ".safetensors"), (("export", "z"), ".safetensors"),
        (("export", "z.pt"), ".safetensors"), (("traverse", "y.jpg"), ".png"),
        (("traverse", "y.npz"), ".png"), (("traverse", "y"), ".png"), (("sample", "y"), ".npz"),
    ],
)  # fmt: skip
def test_no_file_of_one_type_under_the_name_of_another(
    small_run, tmp_path, monkeypatch, capsys, arguments, ending
):
    monkeypatch.chdir(tmp_path)
    command, name = arguments
    code = ("--code", "c1") if command == "traverse" else ()
    said = error_line(capsys, command, small_run, "--output", name, *code)
    assert f"--output {name}: names ending in " in said and ending in said
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("command", ["sample", "traverse", "export"])
def test_a_folder_that_can_not_be_written_to_names_output(
    small_run, tmp_path, monkeypatch, capsys, command
):
    monkeypatch.chdir(tmp_path)

    def refuse(path, content):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    for module in ("grid", "generator_file"):
        monkeypatch.setattr(f"fastinfogan.results.{module}.atomic_write", refuse)
    said = error_line(capsys, command, small_run)
    assert "can't be written: Read-only file system; --output names another place" in said


@pytest.mark.parametrize("given", [("--low", "-1"), ("--high", "1"), ("--low", "-2.0")])
def test_categories_have_no_low_and_high(small_run, tmp_path, monkeypatch, capsys, given):
    monkeypatch.chdir(tmp_path)
    said = error_line(capsys, "traverse", small_run, "--code", "c1", *given)
    assert f"{given[0]} " in said and "not for c1_cat10" in said
    said = error_line(capsys, "traverse", small_run, "--set", "c2=0,c3=0", *given)
    assert "not for c1_cat10" in said
    assert main(["traverse", str(small_run), "--rows", "1", "--columns", "2", *given]) == 0
