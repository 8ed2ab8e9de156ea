"""The exceptions of this package, and how others' are put into a message."""

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


def printable(text: str, most: int) -> str:
    """Text from a file, fit to be printed.

    Args:
        text: whatever the file holds.
        most: characters; what is longer loses its middle.

    Returns:
        The text, with escapes for what a terminal can't print, or would obey.
    """
    text = _without_middle(text, most)
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return _without_middle("".join(escaped), most)


def _without_middle(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most * 2 // 3]} … {text[-most // 3 :]}"
