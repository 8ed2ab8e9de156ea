"""The one exception a user's mistake raises: a single line that says what would work instead."""


class UserError(ValueError):
    """A mistake in what the user asked for: the message names the flag, its value and a remedy.

    The command line prints it as one line and exits with code 2; programs that call the Python
    functions see an ordinary ``ValueError``.
    """


class TrainingDiverged(RuntimeError):
    """A loss or a weight became NaN or infinite. The last good checkpoint is kept."""
