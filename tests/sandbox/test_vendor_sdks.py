"""The vendors' own clients as judges: what the embedded endpoint answers, streams and refuses, they understand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest

from batchcall.sandbox.process import Settings
from running import TOOL
from vendors import FUNCTION, TEXT, VENDORS, ledger_of, rooted

MESSAGES: Any = [{"role": "user", "content": TEXT}]


async def put(settings: Settings, question: Callable[[str], Any]) -> tuple[Any, dict[str, Any]]:
    """What the question, asked in a thread, got from an endpoint of these settings; and the bill."""
    async with rooted(settings) as root:
        answer = await asyncio.to_thread(question, root)
        return answer, await ledger_of(root)


def check_arguments(arguments: Any) -> None:
    jsonschema_rs.validate(FUNCTION["parameters"], arguments)
    assert (arguments["name"], arguments["age"]) == ("Ada", 36)


def openai_client(root: str, key: str = "k") -> Any:
    openai = pytest.importorskip("openai", reason="the openai package is not installed")
    return openai.OpenAI(base_url=f"{root}/v1", api_key=key, max_retries=0)


async def test_openai_reads_a_chat_completion_and_its_stream() -> None:
    def question(root: str) -> Any:
        asked: Any = {"model": "m", "messages": MESSAGES, "tools": [TOOL], "tool_choice": "required"}
        with openai_client(root) as client:
            plain = client.chat.completions.create(**asked)
            with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
                whole = stream.get_final_completion()
            text = client.chat.completions.create(model="m", messages=MESSAGES)
        return plain, whole, text

    (plain, whole, text), bill = await put(Settings(), question)

    for answer in (plain, whole):
        (call,) = answer.choices[0].message.tool_calls
        check_arguments(json.loads(call.function.arguments))
        assert answer.choices[0].finish_reason == "tool_calls"
    assert text.choices[0].message.content
    assert sum(one.usage.total_tokens for one in (plain, whole, text)) == bill["billed_tokens"]


async def test_openai_reads_a_response_and_its_stream() -> None:
    def question(root: str) -> Any:
        asked: Any = {"model": "m", "input": TEXT, **VENDORS["responses"].tools, "reasoning": {"effort": "low"}}
        with openai_client(root) as client:
            plain = client.responses.create(**asked)
            with client.responses.stream(**asked) as stream:
                kinds = [event.type for event in stream]
                whole = stream.get_final_response()
            text = client.responses.create(model="m", input=TEXT)
            with client.responses.stream(model="m", input=TEXT) as stream:
                said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        return plain, whole, text, said, kinds

    (plain, whole, text, said, kinds), bill = await put(Settings(), question)

    for answer in (plain, whole):
        reasoning, call = answer.output
        assert (reasoning.type, call.type, answer.status) == ("reasoning", "function_call", "completed")
        check_arguments(json.loads(call.arguments))
        assert answer.usage.output_tokens_details.reasoning_tokens > 0
    assert text.output_text
    assert said.startswith("This is what it says")
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert bill["billed"] == 4


OPENAI_ERRORS = {
    "rate_limited": "RateLimitError",
    "quota": "RateLimitError",
    "bad_key": "AuthenticationError",
    "overloaded": "InternalServerError",
    "context_length": "BadRequestError",
    "unprocessable": "UnprocessableEntityError",
    "disconnect_before": "APIConnectionError",
}


@pytest.mark.parametrize("fault", OPENAI_ERRORS)
async def test_openai_raises_what_it_raises_for_openai(fault: str) -> None:
    openai = pytest.importorskip("openai", reason="the openai package is not installed")

    def question(root: str) -> Any:
        raised = []
        with openai_client(root) as client:
            for ask in (
                lambda: client.chat.completions.create(model="m", messages=MESSAGES),
                lambda: client.responses.create(model="m", input=TEXT),
            ):
                with pytest.raises(getattr(openai, OPENAI_ERRORS[fault])) as caught:
                    ask()
                raised.append(caught.value)
        return raised

    raised, bill = await put(Settings(faults={fault: 1.0}), question)

    assert bill["billed"] == 0
    if fault == "quota":
        assert [error.code for error in raised] == ["insufficient_quota"] * 2


async def test_openai_speaks_to_azure() -> None:
    openai = pytest.importorskip("openai", reason="the openai package is not installed")

    def question(root: str) -> Any:
        def ask(key: str) -> Any:
            with openai.AzureOpenAI(
                azure_endpoint=root, api_key=key, api_version="2024-10-21", max_retries=0
            ) as client:
                return client.chat.completions.create(model="my-deployment", messages=MESSAGES)

        with pytest.raises(openai.AuthenticationError):
            ask("k2")
        return ask("k1")

    answer, _ = await put(Settings(api_key="k1"), question)

    assert answer.choices[0].message.content
    assert answer.model == "my-deployment"


def anthropic_client(root: str) -> Any:
    anthropic = pytest.importorskip("anthropic", reason="the anthropic package is not installed")
    return anthropic.Anthropic(base_url=root, api_key="k", max_retries=0)


async def test_anthropic_reads_a_message_and_its_stream() -> None:
    def question(root: str) -> Any:
        asked: Any = VENDORS["anthropic"].asked
        thinking: Any = {"type": "enabled", "budget_tokens": 1_024}
        with anthropic_client(root) as client:
            plain = client.messages.create(**asked)
            with client.messages.stream(**asked) as stream:
                whole = stream.get_final_message()
            with client.messages.stream(model="m", max_tokens=2_000, messages=MESSAGES, thinking=thinking) as stream:
                thought = stream.get_final_message()
        return plain, whole, thought

    (plain, whole, thought), bill = await put(Settings(api_key="k"), question)

    for answer in (plain, whole):
        (block,) = answer.content
        assert (block.type, answer.stop_reason) == ("tool_use", "tool_use")
        check_arguments(block.input)
    assert [block.type for block in thought.content] == ["thinking", "text"]
    assert thought.content[0].signature
    told = sum(one.usage.input_tokens + one.usage.output_tokens for one in (plain, whole, thought))
    assert told == bill["billed_tokens"]


ANTHROPIC_ERRORS = {
    "rate_limited": ("RateLimitError", "rate_limit_error"),
    "quota": ("BadRequestError", "invalid_request_error"),
    "bad_key": ("AuthenticationError", "authentication_error"),
    "unknown_model": ("NotFoundError", "not_found_error"),
    "overloaded": ("InternalServerError", "overloaded_error"),
    "server_error": ("InternalServerError", "api_error"),
}


@pytest.mark.parametrize("fault", ANTHROPIC_ERRORS)
async def test_anthropic_raises_what_it_raises_for_anthropic(fault: str) -> None:
    anthropic = pytest.importorskip("anthropic", reason="the anthropic package is not installed")
    raised, told = ANTHROPIC_ERRORS[fault]

    def question(root: str) -> Any:
        with anthropic_client(root) as client, pytest.raises(getattr(anthropic, raised)) as caught:
            client.messages.create(model="m", max_tokens=50, messages=MESSAGES)
        return caught.value

    error, bill = await put(Settings(faults={fault: 1.0}), question)

    assert (error.body["error"]["type"], bill["billed"]) == (told, 0)


def google_client(root: str) -> Any:
    genai = pytest.importorskip("google.genai", reason="the google-genai package is not installed")
    options = {"base_url": root, "api_version": "v1beta"}
    return genai.Client(api_key="k", vertexai=False, http_options=options)


async def test_google_reads_an_answer_and_its_stream() -> None:
    def question(root: str) -> Any:
        config = {
            "tools": [
                {
                    "function_declarations": [
                        {"name": FUNCTION["name"], "parameters_json_schema": FUNCTION["parameters"]}
                    ]
                }
            ],
            "tool_config": {"function_calling_config": {"mode": "ANY"}},
            "automatic_function_calling": {"disable": True},
        }
        client = google_client(root)
        plain = client.models.generate_content(model="m", contents=TEXT, config=config)
        chunks = list(client.models.generate_content_stream(model="m", contents=TEXT, config=config))
        text = list(client.models.generate_content_stream(model="m", contents=TEXT))
        client.close()
        return plain, chunks, text

    (plain, chunks, text), bill = await put(Settings(api_key="k"), question)

    for answer in (plain, chunks[-1]):
        (call,) = answer.function_calls
        check_arguments(call.args)
        assert answer.candidates[0].finish_reason.value == "STOP"
    assert "".join(chunk.text or "" for chunk in text).startswith("This is what it says")
    told = [plain.usage_metadata, chunks[-1].usage_metadata, text[-1].usage_metadata]
    assert sum(one.total_token_count for one in told) == bill["billed_tokens"]


@pytest.mark.parametrize(
    ("fault", "raised", "status"),
    [
        ("rate_limited", "ClientError", "RESOURCE_EXHAUSTED"),
        ("bad_key", "ClientError", "INVALID_ARGUMENT"),
        ("unknown_model", "ClientError", "NOT_FOUND"),
        ("overloaded", "ServerError", "UNAVAILABLE"),
        ("server_error", "ServerError", "INTERNAL"),
    ],
)
async def test_google_raises_what_it_raises_for_google(fault: str, raised: str, status: str) -> None:
    errors = pytest.importorskip("google.genai.errors", reason="the google-genai package is not installed")

    def question(root: str) -> Any:
        client = google_client(root)
        with pytest.raises(getattr(errors, raised)) as caught:
            client.models.generate_content(model="m", contents=TEXT)
        client.close()
        return caught.value

    error, bill = await put(Settings(faults={fault: 1.0}), question)

    assert (error.status, bill["billed"]) == (status, 0)


async def test_google_reads_a_blocked_prompt() -> None:
    def question(root: str) -> Any:
        client = google_client(root)
        answer = client.models.generate_content(model="m", contents=TEXT)
        client.close()
        return answer

    answer, bill = await put(Settings(faults={"content_filter": 1.0}), question)

    assert answer.prompt_feedback.block_reason.value == "PROHIBITED_CONTENT"
    assert not answer.candidates
    assert bill["billed"] == 0
