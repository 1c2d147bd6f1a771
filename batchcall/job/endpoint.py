"""[endpoint] of a job file: where the model is, and where its key is. The key itself is never in a job file."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import stat
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

from batchcall.base import JobError, Secret
from batchcall.job.reading import Draft, located
from batchcall.job.sections import EndpointSection, Job

ADDED_PATHS = (  # by the protocols
    "/chat/completions",
    "/responses",
    "/messages",
    ":generateContent",
    ":streamGenerateContent",
)
AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
# Vendors that refuse a tool's name with anything but ASCII letters, digits, _ and -. Relays and local servers take all.
_STRICT_NAME_HOSTS = (
    *("api.openai.com", ".api.openai.com", *AZURE_HOSTS, ".ai.azure.com"),
    *("api.anthropic.com", ".googleapis.com", ".amazonaws.com", "api.mistral.ai"),
)


def read_endpoints(draft: Draft) -> list[EndpointSection]:
    """[endpoint] or all [[endpoint]]s, once for each key, paths absolute; none where their shape is wrong."""
    return [_endpoint(draft, one, key) for one in _tables(draft) for key in _keys(one)]


def _tables(draft: Draft) -> list[dict[str, Any]]:
    written = draft.section("endpoint", instead=[])
    return written if isinstance(written, list) else [written]


def _keys(table: Mapping[str, Any]) -> list[str | None]:
    written = table.get("api_key")
    return list(written) if isinstance(written, list) else [written]


def _endpoint(draft: Draft, written: Mapping[str, Any], key: str | None) -> EndpointSection:
    # run.json keeps the endpoint, and a resume may start in another folder: so paths become absolute here.
    more: dict[str, Any] = {"url": written["url"].rstrip("/"), "api_key": key}
    if "ca_file" in written:
        more["ca_file"] = located(draft, written["ca_file"])
    source, _, place = (key or "").partition(":")
    if source == "file" and place:
        more["api_key"] = f"file:{located(draft, place)}"
    if written.get("concurrency") == "auto":
        more["concurrency"] = 0
    return EndpointSection(**{**written, **more})


def endpoint_names(endpoints: Sequence[EndpointSection]) -> list[str]:
    """How the column `endpoint` names them: by their URLs, numbered where several have the same."""
    # Several keys of one URL are several endpoints, and a key must not show in a name.
    urls = [endpoint.url for endpoint in endpoints]
    return [url if urls.count(url) == 1 else f"{url}#{urls[: place + 1].count(url)}" for place, url in enumerate(urls)]


def auth_of(endpoint: EndpointSection) -> str | None:
    """How the key is sent: as written, else as the host wants it. None: in the protocol's own way."""
    if endpoint.auth is None and endpoint.protocol in ("openai-chat", "openai-responses") and _is_azure(endpoint.url):
        return "api-key"
    return endpoint.auth


def _is_azure(url: str) -> bool:
    parts = _split(url)
    return parts is not None and (parts.hostname or "").endswith(AZURE_HOSTS)


def takes_any_name(url: str) -> bool:
    """Whether tools are sent to this endpoint by their own names, whatever letters these have."""
    parts = _split(url)
    host = (parts.hostname or "").rstrip(".") if parts is not None else ""
    return not any(host.endswith(one) if one.startswith(".") else host == one for one in _STRICT_NAME_HOSTS)


def request_url(endpoint_url: str, path: str) -> str:
    """Where a request goes: the path behind the endpoint's own, and the query that Azure has in its URLs behind both.

    A query of the path comes last.
    """
    url = urlsplit(endpoint_url)
    name, _, query = path.partition("?")
    queries = "&".join(filter(None, (url.query, query)))
    return url._replace(path=url.path.rstrip("/") + name, query=queries, fragment="").geturl()


def idle_keys(endpoints: list[EndpointSection]) -> list[str]:
    """What is allowed of keys and yet looks like a mistake."""
    never_sent = [
        'endpoint.api_key is never sent, because endpoint.auth is "none"'
        for endpoint in endpoints
        if endpoint.api_key is not None and endpoint.auth == "none"
    ]
    split = [_split(endpoint.url) for endpoint in endpoints if endpoint.api_key is None and endpoint.auth != "none"]
    hosts = dict.fromkeys(url.hostname for url in split if url is not None and url.hostname in _USUAL_KEYS)
    return never_sent + [
        f"endpoint.api_key is missing, and {host} needs a key: write"
        f' api_key = "env:{_USUAL_KEYS[host]}" and set that variable, or put the key into a file and write'
        ' api_key = "file:PATH"'
        for host in hosts
        if host is not None
    ]


_USUAL_KEYS = {
    "api.openai.com": "OPENAI_API_KEY",
    "api.anthropic.com": "ANTHROPIC_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
    "api.mistral.ai": "MISTRAL_API_KEY",
}


def check_endpoints(draft: Draft, job: Job) -> None:
    """Report to the draft what cannot be used, and never a value that may be a secret."""
    tables = _tables(draft)
    names = ["endpoint"] if len(tables) == 1 else [f"endpoint.{place}" for place in range(len(tables))]
    # The endpoints of a list of keys all stand in the same place.
    places = [name for name, one in zip(names, tables, strict=True) for _ in _keys(one)]
    seen = set()
    for where, endpoint in zip(places, job.endpoints, strict=True):
        if endpoint.url != "sandbox":
            _check_url(draft, endpoint, f"{where}.url")
        if endpoint.api_key is not None and not re.fullmatch(r"env:[A-Za-z_]\w*|file:[^\0]+", endpoint.api_key):
            draft.fault(f"{where}.api_key", 'it must not be the key itself: write "env:NAME" or "file:PATH"')
        if endpoint.ca_file is not None and not os.path.isfile(endpoint.ca_file):
            draft.fault(f"{where}.ca_file", f"there is no file {endpoint.ca_file}")
        for name, value in endpoint.headers.items():
            if not _HEADER_NAME.fullmatch(name) or not value.isprintable():
                what = "a header needs a name without spaces and a value of one printable line"
                draft.fault(f"{where}.headers.{name!r}", what)
            elif name.lower() in _KEY_HEADERS or _KEY_VALUE.search(value):
                what = "a job file must not contain a key: use endpoint.api_key and endpoint.auth"
                draft.fault(f"{where}.headers.{name}", what)
        account = (endpoint.url, endpoint.api_key, endpoint.model, endpoint.auth, *sorted(endpoint.headers.items()))
        if account in seen and endpoint.url != "sandbox":
            draft.fault(where, "the same URL with the same key is listed twice: its limits would be used twice")
        seen.add(account)


def _check_url(draft: Draft, endpoint: EndpointSection, where: str) -> None:
    """Never quotes the URL: it may contain a password."""
    url = _split(endpoint.url)
    if url is None:
        draft.fault(where, 'it is not a URL; write it like "https://api.openai.com/v1"')
        return
    # Some servers read a semicolon as an ampersand. Azure's functions call a key `code`, signed URLs `sig`.
    parameters = [name for name, _ in parse_qsl(url.query.replace(";", "&"), keep_blank_values=True)]
    has_key = any(name.lower() in ("code", "sig") or _SECRET_NAME.search(name) for name in parameters)
    if "@" in url.netloc or has_key:
        draft.fault(where, "it contains a key or a password: use endpoint.api_key and endpoint.auth")
    for path in ADDED_PATHS:
        if url.path.rstrip("/").endswith(path):
            draft.fault(where, f"leave out {path}: batchcall adds it")
    if endpoint.protocol == "openai-responses" and _is_azure(endpoint.url) and "/deployments/" in url.path:
        what = "Azure's Responses API is under /openai/v1; write the deployment's name as request.model"
        draft.fault(where, what)
    # Over plain http, anyone between here and the server can read the key. Within this machine there is nobody.
    is_plain = url.scheme == "http" and not _is_this_machine(url.hostname or "")
    if is_plain and endpoint.api_key is not None and not endpoint.allow_http_key:
        draft.fault(
            where,
            "a key is sent over https only, except to this machine; endpoint.allow_http_key = true sends it over plain"
            " http anyway, for a gateway in your own network",
        )


def _split(text: str) -> SplitResult | None:
    try:
        url = urlsplit(text)
        _ = url.port  # raises ValueError where it is not one
    except ValueError:
        return None
    is_sound = _SOUND_NETLOC.fullmatch(url.netloc) and not re.search(r"[\s\x00-\x1f\x7f]", text)
    return url if url.hostname and is_sound else None


# Python 3.11 reads [::1].example.com as ::1, and the code that connects does not.
_SOUND_NETLOC = re.compile(r"[^\[\]]*|(?:[^\[\]]*@)?\[[^\[\]]*\](?::\d*)?")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a token of RFC 9110
_KEY_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "cookie"})
# How the keys of the usual vendors begin, and web tokens.
_KEY_VALUE = re.compile(r"^(?:bearer|basic)\s+\S|\b(?:sk-|xai-|gsk_|hf_|AIza|eyJ)[\w-]{12,}", re.IGNORECASE)


def resolve_key(reference: str | None) -> Secret | None:
    """The key that "env:NAME" or "file:PATH" refers to. Raises JobError when it is not there, or others may read it."""
    if reference is None:
        return None
    source, _, place = reference.partition(":")
    key = (os.environ.get(place, "") if source == "env" else _key_in_file(place)).strip()
    if not key and source == "env":
        raise JobError(
            f"endpoint.api_key: the environment variable {place} is not set",
            hint=f"set it with export {place}=…, or put the key into a file and write"
            ' api_key = "file:PATH" in the job file',
        )
    if not key:
        raise JobError(f"endpoint.api_key: {place} is empty", hint="write the key into it, on one line")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise JobError(
            f"endpoint.api_key: {reference} contains characters that a key cannot have",
            hint="it must be the key alone, without Bearer, on one line",
        )
    return Secret(key)


def _key_in_file(path: str) -> str:
    try:
        # A file that is not text is read all the same: what is wrong with it is reported as with any other key.
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            exposed = _exposed(file.fileno())
            if exposed is not None and exposed.is_ours:
                raise JobError(f"endpoint.api_key: {exposed.whom} {path}", hint=f"chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise JobError(
            f"endpoint.api_key: {path} cannot be read: {error.strerror}",
            hint='write the key into it, on one line; or set a variable and write api_key = "env:NAME" in the job file',
        ) from error


def exposed_keys(endpoints: Sequence[EndpointSection]) -> list[str]:
    """Warnings of key files that every user may read, and whose mode this user cannot change: Kubernetes and Docker
    hand keys to a container that way."""
    warnings = []
    for reference in dict.fromkeys(endpoint.api_key or "" for endpoint in endpoints):
        source, _, path = reference.partition(":")
        if source != "file":
            continue
        with contextlib.suppress(OSError), open(path, "rb") as file:
            exposed = _exposed(file.fileno())
            if exposed is not None and not exposed.is_ours:
                warnings.append(f"endpoint.api_key: {exposed.whom} {path}; Kubernetes: defaultMode: 0440 and fsGroup")
    return warnings


class _Exposed(NamedTuple):
    whom: str  # and what they may do
    is_ours: bool  # the file is this user's own, who could change its mode


def _exposed(number: int) -> _Exposed | None:
    """Whether others than the owner and the group may read an open file, or others than the owner may change it.

    Its group may read it: that is how a container that does not run as root gets its key.
    """
    if os.name == "nt":
        return None
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        return None
    is_fixed = bool(os.fstatvfs(number).f_flag & os.ST_RDONLY)  # root cannot change a mode there either
    can = "can read" if found.st_mode & stat.S_IROTH else "can change"
    return _Exposed(f"other users {can}", is_ours=found.st_uid == os.geteuid() and not is_fixed)


def masked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as they may be shown and recorded."""
    return {name: "***" if _SECRET_NAME.search(name) else value for name, value in headers.items()}


_SECRET_NAME = re.compile(r"auth|cookie|credential|key|password|secret|signature|token", re.IGNORECASE)
