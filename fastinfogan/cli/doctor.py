"""``doctor``: the command that shows what will run here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Doctor:
    """Show what this machine has, and what of fastinfogan will run on it."""

    def __call__(self) -> int:
        from fastinfogan.doctor import main

        return main()
