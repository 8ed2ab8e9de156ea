"""Tables of what a CPU was measured to do, from its results files."""

from __future__ import annotations

import textwrap
from typing import Any

from bench.harness import RESULTS, read_results
from bench.subjects import TUNED
from bench.table import peer_of

BEGIN, END = "<!-- cpu: begin -->\n", "<!-- cpu: end -->\n"

Found = dict[str, Any]


def committed() -> list[Found]:
    """What the results files of all CPUs hold, by name."""
    return [read_results(path) for path in sorted(RESULTS.glob("cpu-*.json"))]


def between_marks(page: str, text: str) -> str:
    """A page of documentation with another text between its marks."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}{text}\n{END}{after}"


def in_short(files: list[Found]) -> str:
    """Markdown: a line for each CPU, for who wants no more."""
    return "\n".join(line for found in files for line in _lines(found))


def _lines(found: Found) -> list[str]:
    on = next(iter(found["presets"].values()))["on"]["hardware"]
    said = []
    for preset, measured in found["presets"].items():
        times = [
            f"{heading}{_three(1e3 * result['seconds']['median'])} ms, "
            f"{result['ratio_to'][peer]['median']:.2f} × {peer}"
            for name, heading in (("ours", ""), ("ours-amp", "`--amp` "))
            if (peer := peer_of(result := measured["subjects"].get(name, {"amp": False})))
            in result.get("ratio_to", {})
        ]
        if times:
            said.append(f"`{preset}` {'; '.join(times)}")
    first = found["starts"]["first_iteration"]["median"]
    lines = textwrap.wrap(
        f"{on['cpu']}, {_code(on)}, {on['threads']} threads: {' · '.join(said)}. First "
        f"iteration {first:.1f} s after the command.",
        98, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return [f"{'  ' if i else '* '}{line}" for i, line in enumerate(lines)]


def tables(files: list[Found]) -> str:
    """Markdown: for each CPU what it is, float32, ``--amp`` where it has it, and its starts."""
    return "\n\n".join(part for found in files for part in _parts(found))


def _parts(found: Found) -> list[str]:
    parts = [_title(found)]
    for ours, heading in (("ours", "float32"), ("ours-amp", "`--amp`")):
        rows = [row for preset in found["presets"].items() if (row := _row(*preset, ours))]
        if rows:
            columns = (
                f"{heading}, batch", f"{TUNED}, ms", "reference, ms", "ours, ms", "images/s",
                f"ours, × {TUNED}", "× reference", "floor / ours", f"MB, ours ({TUNED})",
            )  # fmt: skip
            lines = [columns, ("---", *["--:"] * (len(columns) - 1)), *rows]
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return [*parts, _starts(found["starts"])]


def _title(found: Found) -> str:
    on = next(iter(found["presets"].values()))["on"]
    cpu, versions = on["hardware"], on["versions"]
    has = found["instructions"]
    half = "AMX" if has.get("amx_bf16") else "AVX-512 bf16" if has.get("avx512_bf16") else "none"
    n = {s["seconds"]["n"] for p in found["presets"].values() for s in p["subjects"].values()
         if "seconds" in s}  # fmt: skip
    return (
        f"**{cpu['cpu']}**, {cpu['threads']} threads, {_code(cpu)}, bfloat16 arithmetic: "
        f"{half}; torch {versions['torch']}, commit {on['commit'][:7]}, {on['date'][:10]}, "
        f"n = {', '.join(map(str, sorted(n)))} rounds. Medians; quartiles in brackets."
    )


def _code(cpu: Found) -> str:
    """The instructions that were used; whether the CPU has more."""
    return f"kept to {cpu['cpu_code']}" if "kept_to" in cpu else cpu["cpu_code"]


def _row(preset: str, measured: Found, ours: str) -> tuple[str, ...] | None:
    subjects = measured["subjects"]
    result = subjects.get(ours, {})
    if "seconds" not in result:
        return None
    peer = peer_of(result)
    return (
        f"`{preset}`, {measured['batch']}",
        *(_time(subjects.get(name, {})) for name in (peer, "reference", ours)),
        f"{result['images_per_s']:,.0f}",
        *(_ratio(result["ratio_to"].get(base)) for base in (peer, "reference")),
        f"{result['floor_fraction']:.0%}",
        f"{_megabytes(result)} ({_megabytes(subjects.get(peer, {}))})",
    )


def _time(result: Found) -> str:
    if "seconds" not in result:
        return "—"
    q1, median, q3 = (_three(1e3 * result["seconds"][key]) for key in ("q1", "median", "q3"))
    return f"{median} [{q1}, {q3}]"


def _ratio(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "—"
    return f"{ratio['median']:.2f} [{ratio['q1']:.2f}, {ratio['q3']:.2f}]"


def _megabytes(result: Found) -> str:
    return f"{result['memory']['peak_bytes'] / 1e6:,.0f}" if "memory" in result else "—"


def _three(value: float) -> str:
    """Three digits that count."""
    return f"{float(f'{value:.3g}'):,g}"


def _starts(starts: dict[str, dict[str, float]]) -> str:
    def seconds(name: str) -> str:
        return "{median:.2f} s [{q1:.2f}, {q3:.2f}]".format(**starts[name])

    return (
        f"From the command to the first iteration (`digits`): {seconds('first_iteration')}. "
        f"`--help`: {seconds('help')}; of `train`: {seconds('help_of_train')}. A word that is no "
        f"number is refused after {seconds('refused_word')}, a value that can't work after "
        f"{seconds('refused_value')}. n = {starts['help']['n']}."
    )
