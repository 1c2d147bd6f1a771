"""Small chunks of a chunked body, put together before aiohttp's parser sees them.

A stream sends each event in a chunk of its own, thousands for an answer, and for each of them the parser calls Python
several times. It reads the same body from one chunk with their content.
"""

from __future__ import annotations

import re


class Chunks:
    """The chunks of one body, from its first byte on."""

    def __init__(self) -> None:
        self._to_next: int | None = 0  # bytes up to the next chunk; None: not known, something was odd
        self._begun = b""  # the start of a size, whose end has not come

    # What has come of a chunk goes to the parser at once, and what is odd goes there as it is: so does all behind it,
    # the last chunk and trailers too. Only the start of a size is held back: a body that ends there is cut either way.
    def joined(self, data: bytes) -> bytes:
        """The next bytes, with one chunk in the place of those that are whole in them."""
        start = self._to_next
        if start is None:
            return data
        if start > len(data):
            self._to_next = start - len(data)
            return data
        body = b"\r\n%b%b" % (self._begun, data[start:])
        contents, place = _whole_chunks(body)
        left = body[place + len(_BREAK) :]
        if _BEGUN.fullmatch(left):
            self._begun, self._to_next, left = left, 0, b""
        else:
            line = _SIZE.match(body, place)
            size = int(line[1], 16) if line else 0  # 0 is the last
            to_next = line.end() + size + len(_BREAK) - len(body) if line and size else 0
            self._begun, self._to_next = b"", to_next if to_next > 0 else None
        if not contents:
            return data[:start] + left
        content = b"".join(contents)
        return b"%b%x\r\n%b\r\n%b" % (data[:start], len(content), content, left)


def _whole_chunks(body: bytes) -> tuple[list[bytes], int]:
    """What is in the chunks at the start, and where the line break behind the last of them is. `body` begins with the
    line break before the first."""
    contents: list[bytes] = []
    place = before = 0
    width = _USUAL_WIDTH
    while True:
        # What is between two chunks is looked up as a whole; most sizes have as many digits as the one before.
        begin = place + width
        size = _sizes.get(body[place:begin])
        if size is None:
            line = _SIZE.match(body, place)
            if line is None or not (size := int(line[1], 16)):
                break
            begin = line.end()
            width = begin - place
            if len(_sizes) < _MOST_SIZES:
                _sizes[line[0]] = size
        before, place = place, begin + size
        contents.append(body[begin:place])
    if contents and body[place : place + len(_BREAK)] != _BREAK:  # its end has not come, or is odd
        contents.pop()
        place = before
    return contents, place


_BREAK = b"\r\n"
_USUAL_WIDTH = len(b"\r\n100\r\n")
_SIZE = re.compile(rb"\r\n([0-9A-Fa-f]{1,7})\r\n")
_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,7}\r?)?")
_MOST_SIZES = 1024  # a server that invents them does not fill the memory
_sizes: dict[bytes, int] = {}  # by what is between two chunks
