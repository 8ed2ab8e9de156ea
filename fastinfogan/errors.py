"""The exceptions of this package: a user's mistake, and a training run that went wrong."""


class UserError(ValueError):
    """A mistake in what the user asked for: the message names the flag, its value and a remedy.

    The command line prints it as one line and exits with code 2; programs that call the Python
    functions see an ordinary ``ValueError``.
    """


class TrainingDiverged(RuntimeError):
    """A loss or a weight became NaN or infinite. The last good checkpoint is kept."""
