"""The exceptions of this package, and how others' are put into a message."""

from fastinfogan.printable import printable

MOST_SHOWN = 500  # characters of somebody else's message


class UserError(ValueError):
    """A mistake in what the user asked for: the message names the flag, its value and a remedy.

    The command line prints it as one line and exits with code 2; programs that call the Python
    functions see an ordinary ``ValueError``.
    """


class TrainingDiverged(RuntimeError):
    """A loss or a weight became NaN or infinite. The last good checkpoint is kept."""


def one_line(error: Exception) -> str:
    """The error's message in one line of printable text, or the name of its type if it has none."""
    return printable(" ".join(str(error).split()), MOST_SHOWN) or type(error).__name__


def why(error: Exception) -> str:
    """What is wrong, in the system's words where it has some: without the file's name."""
    return getattr(error, "strerror", None) or one_line(error)


def range_works(least: int, most: int) -> str:
    """What to do about a number that is out of range, in words."""
    return f"{least} to {most} work" if least < most else f"only {least} works"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the computer's or the GPU's memory is used up."""
    # torch.OutOfMemoryError by its name: --help does without torch. Its CPU allocator raises a
    # plain RuntimeError and says no more than this, or on Windows "not enough memory".
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
        or "not enough memory" in str(error)
    )
