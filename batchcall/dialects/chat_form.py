"""What a request in the form of chat completions holds, for the protocols that say it in their own words."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import unquote_to_bytes

from batchcall.base import Json, Shape
from batchcall.dialects.jsontext import as_list

SYSTEM_ROLES = ("system", "developer")
RESULT_ROLES = ("tool", "function")  # whose messages are the results of calls


def tools_of(shape: Shape) -> list[Any]:
    """The tools as they are written, else the `functions` that chat completions had before."""
    return [tool.written for tool in shape.tools] or as_list(shape.parameters.get("functions"))


def choice_of(shape: Shape) -> Json:
    """The choice among the tools as it is written, else the `function_call` of before; None where there is none."""
    return shape.tool_choice if shape.tool_choice is not None else shape.parameters.get("function_call")


def url_of(image: Any) -> str | None:
    """The URL in what stands for an image or a video, which is an object or the URL itself."""
    url = image.get("url") if isinstance(image, dict) else image
    return url if isinstance(url, str) else None


def read_data_url(url: str) -> tuple[str, str] | None:
    """The media type of a data URL (RFC 2397) and its bytes in base64; None for any other URL."""
    if url[:5].lower() != "data:":
        return None
    head, _, written = url[5:].partition(",")
    media_type, *options = [one.strip().lower() for one in head.split(";")]
    if "base64" not in options:
        written = base64.b64encode(unquote_to_bytes(written.encode(errors="replace"))).decode()
    return media_type or "text/plain", written
