"""Names of videos as reports print them."""


def printable(name: str) -> str:
    """The name with escapes in place of characters that cannot be printed or encoded."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in name)
