"""The one line that a user gets when something asked for can't be done."""

from __future__ import annotations

import pytest

from fastinfogan.errors import UserError


def error_of(call, *args, **kwargs) -> str:
    """The text of the UserError that the call raises; every one must be a single line."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)
