"""What was trained, and how: settings, networks, the command; how to load and to cite it."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from fastinfogan.config import KERNEL, PRESETS
from fastinfogan.results.report.elements import Content, code, element, table
from fastinfogan.results.report.facts import Facts
from fastinfogan.results.report.settings import command, settings

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
    """Every setting; those that differ from the preset's come first and are marked."""
    found = sorted(settings(facts.config), key=lambda setting: not setting.differs)
    rows: list[list[Content]] = []
    for setting in found:
        flag = element("code", setting.flag)
        value = _said(setting.value)
        if setting.differs:
            rows.append([element("mark", flag), element("td", element("b", value)),
                         _said(setting.usual)])  # fmt: skip
        else:
            rows.append([flag, value, ""])
    preset = facts.config.model.preset
    changed = sum(setting.differs for setting in found)
    said = f"{changed} of {len(found)} differ from preset {preset} ({PRESETS[preset].source})."
    return [
        element("p", said, class_="soft"),
        code(command(facts.config), "the command that trains such a run"),
        element(
            "details",
            element("summary", "All settings"),
            table(["option", "this run", "instead of"], rows, "settings"),
            open=None if changed == 0 else "",
        ),
    ]


def networks(facts: Facts) -> Element:
    """The rows of G, D and Q, with their parameters."""
    rows: list[list[Content]] = []
    for part, layers in facts.config.architecture.rows(facts.config.spec).items():
        for row, before, after in layers:
            kernel = "" if row.kind == "fc" else f" {KERNEL}x{KERNEL}, stride {row.stride}"
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
