"""How a request says who asks: the ways of `endpoint.auth`, the same in every protocol."""

from __future__ import annotations

from collections.abc import Mapping

from batchcall.base import JobError

# The vapi relay documents all three, the second together with Anthropic's version header.
WAYS: Mapping[str, Mapping[str, str]] = {
    "bearer": {"Authorization": "Bearer {key}"},
    "x-api-key": {"x-api-key": "{key}", "anthropic-version": "2023-06-01"},
    "api-key": {"api-key": "{key}"},  # Azure
    "x-goog-api-key": {"x-goog-api-key": "{key}"},
    "none": {},
}
OWN_HEADER = "header:"


def auth_headers(auth: str, key: str | None) -> dict[str, str]:
    """The headers that carry the key; none without a key. Raises JobError where `auth` is not a known way."""
    name = auth.removeprefix(OWN_HEADER).strip()
    ways = {name: "{key}"} if auth.startswith(OWN_HEADER) and name else WAYS.get(auth)
    if ways is None:
        hint = f"use {', '.join(WAYS)} or header:NAME"
        raise JobError(f'endpoint.auth: "{auth}" is not a way to authenticate', hint=hint)
    return {header: value.replace("{key}", key) for header, value in ways.items()} if key else {}
