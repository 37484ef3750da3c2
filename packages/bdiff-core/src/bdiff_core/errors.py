"""Errors of other libraries, said in one line."""


def first_line(error: BaseException) -> str:
    """The first line of an error that says something, or else the error's name."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
