"""What a command imports before it does its work: the time to it, counted in modules."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Each takes from a twentieth of a second to seconds to import.
SLOW = {
    "email", "matplotlib", "mlxtend", "numpy", "pandas", "PIL", "pooch", "scipy", "sklearn",
    "sympy", "tensorboard", "torch", "triton", "typeguard",
}  # fmt: skip

SAY = "print(*sorted({name.partition('.')[0] for name in sys.modules}))"

COMMAND = f"""if True:
    import sys
    from fastinfogan.cli import main
    try:
        print(main(sys.argv[1:]))
    except SystemExit as end:
        print(end.code)
    {SAY}
"""

# Ends where the first iteration's row is in metrics.jsonl.
FIRST_ITERATION = f"""if True:
    import os, sys
    from fastinfogan.cli import main
    from fastinfogan.training.metrics import MetricsLog
    write = MetricsLog.write
    def written(*arguments):
        write(*arguments)
        {SAY}
        sys.stdout.flush()
        os._exit(0)
    MetricsLog.write = written
    main(["train", "--preset", PRESET, "--iterations", "1", "--log-every", "1", "--batch-size", "4",
          "--device", "cpu", "--out", "run"])
"""


def imported(code, folder, *arguments):
    """What a fresh process has printed, and which of the slow modules it has imported."""
    environment = {name: os.environ[name] for name in os.environ if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *said, names = done.stdout.strip().splitlines()
    return said, SLOW & set(names.split())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", "0"),
        ("train --help", "0"),
        ("nonsense", "2"),
        ("train --batch-size many", "2"),
        ("train --batch-size 0", "2"),
        ("study --jobs many", "2"),
        ("train --resume nowhere", "2"),
    ],
)
def test_help_and_mistakes_wait_for_nothing(arguments, code, tmp_path):
    said, slow = imported(COMMAND, tmp_path, *arguments.split())
    assert said[-1] == code
    assert slow <= {"numpy"} if "--resume" in arguments else not slow


@pytest.mark.parametrize(
    "arguments",
    [
        "train --codes nonsense",
        "train --dataset nonsense",
        "train --preset svhn",
        "train --out .",
    ],
)
def test_a_value_that_cannot_work_is_refused_before_torch_loads(arguments, tmp_path):
    (tmp_path / "something").touch()
    said, slow = imported(COMMAND, tmp_path, *arguments.split())
    assert said == ["2"] and slow <= {"numpy"}


@pytest.mark.parametrize("preset", ["digits", "mnist-mlp"])
def test_the_first_iteration_on_a_cpu_waits_for_torch_and_the_data_alone(preset, tmp_path):
    code = FIRST_ITERATION.replace("PRESET", repr(preset))
    _, slow = imported(code, tmp_path)
    assert "torch" in slow and slow <= {"email", "mlxtend", "numpy", "PIL", "torch"}
