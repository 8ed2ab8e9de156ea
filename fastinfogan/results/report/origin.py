"""What was trained, and how: settings, networks, the command; how to load and to cite it."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from fastinfogan.config import KERNEL, PRESETS
from fastinfogan.results.report.elements import Content, code, element, table
from fastinfogan.results.report.facts import Facts
from fastinfogan.results.report.settings import Setting, command, settings

PAPER = """@inproceedings{chen2016infogan,
  title     = {{InfoGAN}: Interpretable Representation Learning by Information Maximizing
               Generative Adversarial Nets},
  author    = {Chen, Xi and Duan, Yan and Houthooft, Rein and Schulman, John and
               Sutskever, Ilya and Abbeel, Pieter},
  booktitle = {Advances in Neural Information Processing Systems 29},
  year      = {2016},
  note      = {arXiv:1606.03657}
}"""


def settings_table(facts: Facts) -> list[Element]:
    """The settings that differ from the preset's, the command, and all of them behind a click."""
    found = settings(facts.config)
    changed = [setting for setting in found if setting.differs]
    preset = facts.config.model.preset
    parts = [
        element(
            "p", f"{len(changed)} of {len(found)} settings differ from what preset {preset} "
            f"({PRESETS[preset].source}) gives on this dataset.", class_="soft",
        ),
    ]  # fmt: skip
    if changed:
        parts.append(_table(changed))
    return [
        *parts,
        element("h3", "The same again"),
        code(command(facts.config), "the command that trains such a run"),
        element("details", element("summary", "All settings"), _table(found)),
    ]


def _table(found: list[Setting]) -> Element:
    rows: list[list[Content]] = []
    for setting in found:
        flag = element("code", setting.flag)
        if setting.differs:
            value = element("td", element("b", _said(setting.value)))
            rows.append([element("mark", flag), value, _said(setting.usual)])
        else:
            rows.append([flag, _said(setting.value), ""])
    return table(["option", "this run", "instead of"], rows, "settings")


def networks(facts: Facts) -> Element:
    """The rows of G, D and Q, with their parameters."""
    rows: list[list[Content]] = []
    for part, layers in facts.config.rows.items():
        for row, before, after in layers:
            kernel = "" if row.kind == "fc" else f" {KERNEL}x{KERNEL}, stride {row.stride}"
            kernel += ", sees x and y" if row.coordinates else ""
            rows.append([
                part, f"{row.kind}{kernel}", "batchnorm" if row.norm else "", row.activation,
                _times(before), _times(after), f"{row.parameters(before):,}",
            ])  # fmt: skip
    heads: list[Content] = ["network", "layer", "", "activation", "from", "to", "parameters"]
    return element("details", element("summary", "Networks"), table(heads, rows, "layers"))


def loading(facts: Facts) -> list[Element]:
    """How to get at the generator again."""
    spec = facts.config.spec
    fixed = ", ".join(
        f'"c{i + 1}": {1 if code.is_discrete else -1.5}' for i, code in enumerate(spec.codes[:2])
    )
    path = facts.command
    shape = ", ".join(map(str, [*facts.config.architecture.image_shape[1:],
                                facts.config.architecture.image_shape[0]]))  # fmt: skip
    pixels = f"uint8 (16, {shape})"
    lines = f"""from fastinfogan import load_generator

generator = load_generator("generator.safetensors")  # in the run's folder
images = generator.sample(16, seed=1, fixed={{{fixed}}})  # {pixels}
picture = generator.traverse("c1")"""
    commands = f"""fastinfogan explore  {path}
fastinfogan sample   {path} --set c1=1
fastinfogan evaluate {path}
fastinfogan train --resume {path} --iterations {2 * facts.iteration}"""
    return [
        element("h3", "In Python"), code(lines, "how to load the generator"),
        element("h3", "On the command line"), code(commands, "commands for this run"),
        element(
            "p", "Without this package: the header of generator.safetensors says, layer by layer, "
            "how to rebuild it.", class_="soft",
        ),
    ]  # fmt: skip


def citing(facts: Facts) -> list[Element]:
    """BibTeX of the paper, and of what trained this."""
    own, commit = facts.environment["fastinfogan"], facts.environment.get("commit")
    note = f"Version {own}" + (f", commit {commit}" if commit else "")
    ours = f"""@software{{fastinfogan,
  title  = {{fastinfogan: an {{InfoGAN}} trainer for {{PyTorch}}}},
  author = {{{{fastinfogan contributors}}}},
  year   = {{{facts.ended:%Y}}},
  note   = {{{note}}}
}}"""
    return [code(PAPER, "BibTeX of the paper"), code(ours, "BibTeX of fastinfogan")]


def _said(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
