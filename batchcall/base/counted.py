"""Numbers of things, for messages."""


def counted(number: int, noun: str) -> str:
    """ "1 row", "2,000 rows": for a noun that takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
