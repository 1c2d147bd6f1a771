"""How the answers to a row's request will be read."""

from __future__ import annotations

from typing import Any

import pytest

from batchcall.answers.arguments import Toolbox
from batchcall.base.records import Shape
from batchcall.pipeline.request_maker import RequestMaker
from batchcall.requests.row_parts import RowError
from request_making import builder, function


def toolbox_of(parameters: Any) -> Toolbox:
    """Of a row whose own tool has these parameters."""
    tools = [function(parameters=parameters)]
    maker = RequestMaker(builder(), "openai-chat", job_shape=Shape("m", (), None, {}), formats="lenient")
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": tools}
    row = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return maker.toolbox_of(maker.make_request(row))


def test_a_tool_of_a_row_that_is_not_a_schema_is_a_fault_of_the_row() -> None:
    with pytest.raises(RowError, match=r"^the row's tool cannot be used: tool 'f', /type: "):
        toolbox_of({"type": ["STRING", {}]})


def test_a_tool_of_a_row_that_we_fail_to_read_ends_this_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Toolbox:
        raise TypeError("unhashable type: 'dict'")

    monkeypatch.setattr(Toolbox, "of", fail)

    with pytest.raises(RowError, match=r"cannot read its schema \(TypeError\), please report it"):
        toolbox_of({"type": "object"})
