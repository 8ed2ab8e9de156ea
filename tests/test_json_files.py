"""JSON that anybody may have changed: what is wrong with it is found and named."""

from __future__ import annotations

import json

import pytest

from fastinfogan.json_files import misfit, parse_json

SHAPE = {
    "count": int,
    "name": (str, None),
    "parts": [{"x": float}],
    "sizes": {str: int},
    "on?": bool,
}
GOOD = {"count": 3, "name": None, "parts": [{"x": 1}, {"x": 0.5}], "sizes": {"a": 1}, "more": []}


@pytest.mark.parametrize(
    "value", [GOOD, {**GOOD, "on": True}, {**GOOD, "name": "a", "parts": [], "sizes": {}}]
)
def test_what_fits(value):
    assert misfit(value, SHAPE) is None
    assert parse_json(json.dumps(value).encode(), SHAPE) == value


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"count": 2.5}, "count is 2.5"),
        ({"count": True}, "count is true"),
        ({"count": 2**63}, "count is 9223372036854775808"),
        ({"parts": [{"x": 10**400}]}, f"parts[0].x is 1{'0' * 36}..."),
        ({"count": None}, "count is null"),
        ({"name": 4}, "name is 4"),
        ({"parts": {}}, "parts is {}"),
        ({"parts": [{"x": 1.0}, {"y": 1.0}]}, "parts[1] has no x"),
        ({"parts": [{"x": "1"}]}, 'parts[0].x is "1"'),
        ({"sizes": {"a": 1, "b": []}}, "sizes.b is []"),
        ({"on": 1}, "on is 1"),
        ({"name": ["long"] * 99}, 'name is ["long", "long", "long", "long", "lon...'),
    ],
)
def test_what_does_not_fit_is_named(change, says):
    assert misfit({**GOOD, **change}, SHAPE) == says


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it isn't JSON, at line 1"),
        (b'{"count": 3,\n', "it isn't JSON, at line 2"),
        (b'{"count": "\xff"}', "no text"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5_000, "digits"),
        (b"[]", r"it is \[\]"),
        (b"{}", "it has no count"),
    ],
)
def test_what_is_no_json_of_the_kind_is_one_line(content, says):
    with pytest.raises(ValueError, match=says) as caught:
        parse_json(content, SHAPE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_windows_editors_write_is_read(encoding):
    assert parse_json(json.dumps({"é": 1}).encode(encoding)) == {"é": 1}
