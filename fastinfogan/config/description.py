"""What --dry-run prints: the resolved configuration, the shapes, the parameter counts."""

from __future__ import annotations

from fastinfogan.config.layers import KERNEL
from fastinfogan.config.presets import PRESETS
from fastinfogan.config.resolution import resolve
from fastinfogan.config.tree import TrainConfig, to_dict


def describe_config(config: TrainConfig) -> str:
    """A resolved configuration and its networks as text."""
    config = resolve(config)
    spec = config.spec
    lines = [f"preset {config.model.preset}: {PRESETS[config.model.preset].source}"]
    for part, fields in to_dict(config).items():
        lines.append(f"{part}")
        lines += [f"  {name:<17}{'' if value is None else value}" for name, value in fields.items()]
    lines.append(f"latents: {spec.input_width} numbers")
    lines.append(f"  {'noise':<17}{spec.noise} x N(0, 1)")
    for name, code, weight in zip(spec.names, spec.codes, config.lambdas, strict=True):
        role = (
            f"H(c) = {code.entropy:.3f} nats, lambda = {weight:g}" if code.regularized else "free"
        )
        lines.append(f"  {name:<17}{code.kind}, {role}")
    lines.append(f"H(c) in total: {spec.entropy:.3f} nats")
    total = 0
    for part, rows in config.rows.items():
        lines.append(part)
        for row, before, after in rows:
            count = row.parameters(before)
            total += count
            kernel = f" {KERNEL}x{KERNEL}/{row.stride}" if row.kind != "fc" else ""
            place = " xy" if row.coordinates else ""
            what = f"{row.kind}{kernel}{place}{' bn' if row.norm else ''} {row.activation}"
            shapes = f"{'x'.join(map(str, before))} -> {'x'.join(map(str, after))}"
            lines.append(f"  {what:<24}{shapes:<28}{count:>12,}")
        if part == "trunk" and config.model.separate_q:
            total += sum(row.parameters(before) for row, before, _ in rows)
            lines.append("  (and once more for Q, which shares nothing with D)")
    lines.append(f"{total:,} parameters")
    return "\n".join(lines)
