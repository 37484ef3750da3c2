"""Errors of other libraries, in one line."""


def first_line(error: BaseException) -> str:
    """The first line of an error that is not empty; without one, the name of the error's class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
