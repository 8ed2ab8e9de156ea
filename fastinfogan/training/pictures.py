"""Pictures of a run while it trains: drawn between two iterations, written beside those to come."""

from __future__ import annotations

from fastinfogan.results.grid import save_pngs
from fastinfogan.results.run import Run
from fastinfogan.training.board import Board
from fastinfogan.training.saving import Work


def drawn(run: Run, iteration: int, board: Board) -> Work:
    """Draw what the run's generator makes now.

    Args:
        run: whose pictures.
        iteration: after which this is; it goes into the files' names.
        board: shows them, too.

    Returns:
        The work of writing them.
    """
    images = run.pictures()

    def work() -> None:
        save_pngs(run.folder / "pictures", images, f"_{iteration:08d}")
        board.draw(images, iteration)

    return work
