"""bench.conv_ways: what it times is right, and which way the rule takes."""

from __future__ import annotations

import pytest
import torch

from bench import conv_ways
from fastinfogan.kernels.conv.rule import winograd_is_faster


@pytest.mark.parametrize("operation", conv_ways.OPERATIONS)
def test_all_three_ways_agree_before_they_are_timed(operation):
    row = conv_ways.measure(operation, "few images", 2, tiny=True)
    errors = row["relative_errors"]
    assert set(errors) == set(conv_ways.WAYS) and 0 < max(errors.values()) < 1e-6
    assert errors["all"] != errors["fewer"]  # two ways of summing
    assert all(row["seconds"][way]["n"] == 2 for way in conv_ways.WAYS)
    assert row["taken"] == "all"  # of so few images


def test_a_wrong_result_is_not_timed(monkeypatch):
    conv_down = conv_ways.native.conv_down
    monkeypatch.setattr(conv_ways.native, "conv_down", lambda *how: conv_down(*how) * 1.001)
    with pytest.raises(RuntimeError, match="not timed"):
        conv_ways.measure("down", "few images", 1, tiny=True)


def test_the_layers_are_on_both_sides_of_the_rule():
    taken = {
        (
            operation,
            winograd_is_faster(operation, torch.float32, (n, *large), small[0], stride),
        )
        for n, large, small, stride in conv_ways.LAYERS.values()
        for operation in ("down", "up")
    }
    assert taken == {(o, t) for o in ("down", "up") for t in (True, False)}
