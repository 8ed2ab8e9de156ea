"""The exceptions of this package, and how others' are put into a message."""


class UserError(ValueError):
    """A mistake in what the user asked for: the message names the flag, its value and a remedy.

    The command line prints it as one line and exits with code 2; programs that call the Python
    functions see an ordinary ``ValueError``.
    """


class TrainingDiverged(RuntimeError):
    """A loss or a weight became NaN or infinite. The last good checkpoint is kept."""


def one_line(error: Exception) -> str:
    """The error's message in one line, or the name of its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
