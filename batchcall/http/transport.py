"""The only HTTP client. One POST in, an answer or a failure out; it follows, retries and remembers nothing.

Which connection it goes out on: connections.py.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import math
import os
import re
import ssl
import urllib.request
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp

from batchcall.base import VERSION, Failure, FailureKind, HttpRequest, HttpResponse, JobError, Redactor
from batchcall.dialects import GZIP_MAGIC, ZLIB_MAGICS
from batchcall.http.beside import LONG_BODY, beside_to_the_end
from batchcall.http.connections import MOST_RESTING, Connector, Unsent, is_lack_of_descriptors
from batchcall.http.lean import Answer, Client, LeanClient, Most, SessionClient, lean_works, read
from batchcall.job import request_url

MAX_BODY = 16 * 1024 * 1024  # bytes of an answer, decoded; the start of a longer one is kept
MAX_ERROR_BODY = 256 * 1024  # bytes of an answer that is not a success
MAX_EXPANSION = 200  # times its compressed size that an answer may grow to,
ALWAYS_EXPANDED = 1024 * 1024  # unless it stays below this many bytes: leading spaces compress a thousandfold

KEPT_HEADERS = frozenset(
    {
        "content-type",
        "llm_provider-retry-after",  # LiteLLM's name for what it passes on
        "rate_limit_type",  # LiteLLM's, of its own limits
        "request-id",
        "retry-after",
        "retry-after-ms",
        "x-request-id",
        "x-should-retry",
    }
)
KEPT_FAMILIES = (
    "x-ratelimit-",
    "x-rate-limit-",
    "ratelimit-",
    "anthropic-ratelimit-",
    "llm_provider-x-ratelimit-",
    "llm_provider-anthropic-ratelimit-",
)

_PACKED = (GZIP_MAGIC, *ZLIB_MAGICS)  # how a packed body begins
_LONG_PACKED = LONG_BODY // 16  # bytes
_MAX_HEADER = 300  # characters of a header's value that are kept
_MAX_MESSAGE = 300  # characters
_MAX_HEADER_LINE = 64 * 1024  # bytes; aiohttp's 8,190 turn a longer one into an exception that says "400"
_MOST = Most(success=MAX_BODY, error=MAX_ERROR_BODY)
_MAX_LOOK = 4 * 1024 * 1024  # bytes of /metrics
_LOOK_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_CONNECT_S = 30.0  # most for name, connection, TLS and proxy together; always less than the whole attempt's time
_CONNECT_SHARE = 0.9

_CROWDED = (
    "this process may open no more files, so fewer requests to {host} are kept in flight; raise its limit (ulimit -n)"
)
_STRAY = (
    "{host} sent more data than the answer to a request; the extra data is dropped, and each request has a connection"
    " of its own from now on"
)
_OWN_HEADERS = {
    "User-Agent": f"batchcall/{VERSION}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",  # what the official clients ask for, and what is decoded here
    "Content-Type": "application/json",
}


@contextlib.asynccontextmanager
async def open_transport(
    url: str,
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    concurrency: int,
    ca_file: str | None = None,
    trust_env: bool = False,
    allow_http_key: bool = False,
    secrets: tuple[str, ...] = (),
    others_secrets: tuple[str, ...] = (),
    most_resting: int = MOST_RESTING,
    say: Callable[[str], None] = lambda note: None,
) -> AsyncIterator[Transport]:
    """A client of the endpoint at `url` until the block ends, with `headers` on every request.

    `timeout_s` is for one attempt, the last byte of its answer included. `ca_file` replaces the system's authorities.
    `trust_env` takes a proxy from the environment, and nothing else from there. `secrets` are taken out of whatever
    comes back, and so are those that are only sent elsewhere. `say` is called with what a person should know. Raises
    JobError where the URL, a header, the CA file or the proxy cannot be used.
    """
    endpoint = _checked_url(url, has_secret=bool(secrets) and not allow_http_key)
    proxy, proxy_secrets = _proxy_for(endpoint) if trust_env else ("", ())
    for name, value in headers.items():
        if not name or not value.isprintable() or not name.isprintable():
            raise JobError(
                f"the header {name!r} cannot be sent",
                hint="its name or value contains a line break or a similar character",
            )
    given = {name.lower() for name in headers}
    all_headers = {**{name: value for name, value in _OWN_HEADERS.items() if name.lower() not in given}, **headers}
    connector = Connector(
        on_stray=lambda: say(_STRAY.format(host=endpoint.netloc)),
        most_resting=most_resting,
        limit=concurrency,
        ssl=_verifying_context(ca_file),
        resolver=aiohttp.ThreadedResolver(),  # an installed aiodns would bring rules of its own
    )
    timeout = aiohttp.ClientTimeout(
        total=timeout_s,
        # Earlier than the whole attempt's, so that the two can be distinguished: only one of them may be billed.
        connect=min(_CONNECT_S, _CONNECT_SHARE * timeout_s),
        ceil_threshold=math.inf,  # else both are rounded up to the same second
    )
    session = aiohttp.ClientSession(
        connector=connector,
        headers=None if proxy else all_headers,  # aiohttp sends a session's headers to the proxy too, key and all
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout,
        auto_decompress=False,  # it would inflate a bomb
        max_line_size=_MAX_HEADER_LINE,
        max_field_size=_MAX_HEADER_LINE,
        trust_env=False,  # it would read .netrc and refuse our own Authorization
    )
    async with session:
        options = {"proxy": proxy, "headers": all_headers} if proxy else {}
        redactor = Redactor((*secrets, *others_secrets, *proxy_secrets))
        unused_proxy = "" if trust_env else _unused_proxy(endpoint)
        client: Client
        if not proxy and await lean_works(say):
            client = LeanClient(connector, headers=all_headers, timeout=timeout, longest_line=_MAX_HEADER_LINE)
        else:
            client = SessionClient(session, options)
        yield Transport(session, client, endpoint, options, redactor, timeout_s, say, unused_proxy)


def _verifying_context(ca_file: str | None) -> ssl.SSLContext | bool:
    """True is aiohttp's own, which verifies by the system's authorities. No setting turns verification off."""
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror or error
        raise JobError(f"endpoint.ca_file {ca_file} cannot be used: {why}", hint="it must be a PEM file") from error


@dataclass(slots=True, eq=False, repr=False)  # its headers hold the key
class Transport:
    """Posts to one endpoint. Made by `open_transport`."""

    _session: aiohttp.ClientSession
    _client: Client
    _endpoint: SplitResult
    _options: Mapping[str, Any]
    _redactor: Redactor
    _timeout_s: float
    _say: Callable[[str], None]
    _unused_proxy: str  # the variable that names one, where none is used
    _has_said_crowded: bool = False
    _has_answered: bool = False
    _urls: dict[str, str] = field(default_factory=dict)  # by path: a job has one or two

    async def post(self, request: HttpRequest) -> HttpResponse | Failure:
        """Send it once and return the answer, whatever its status, or the failure. Raises only CancelledError.

        A connection that the server closed just when it was taken from the pool counts as disconnected, that is
        possibly billed: aiohttp does not know whether a byte was read at the other end, and never repeats a POST.
        """
        url = self._urls.get(request.path)
        if url is None:
            url = self._urls[request.path] = request_url(self._endpoint.geturl(), request.path)
        try:
            response = await self._client.post(url, request.body, _MOST)
        except (aiohttp.ClientError, OSError) as error:
            return self._as_failure(error)
        self._has_answered = True
        raw, is_cut = response.body, response.is_cut
        if response.status == 400 and self._endpoint.scheme == "http" and _WANTS_HTTPS.search(raw):
            message = f"{self._endpoint.netloc} expects https, but endpoint.url says http"
            return Failure(FailureKind.WRONG_SCHEME, message, http_status=400)
        if len(raw) <= (_LONG_PACKED if raw.startswith(_PACKED) else LONG_BODY):
            return self._as_response(response, raw, is_cut)
        return await beside_to_the_end(lambda: self._as_response(response, raw, is_cut))

    async def look(self, path: str) -> str | None:
        """The text at this path of the endpoint's own host and port; None unless its status is 200.

        Raises only CancelledError.
        """
        url = f"{self._endpoint.scheme}://{self._endpoint.netloc}{path}"
        try:
            async with self._session.get(url, allow_redirects=False, timeout=_LOOK_TIMEOUT, **self._options) as answer:
                raw, is_cut = await read(answer.content, _MAX_LOOK)
                if is_cut:
                    answer.close()
                return raw.decode(errors="replace") if answer.status == 200 and not is_cut else None
        except (aiohttp.ClientError, OSError):
            return None

    def _as_response(self, response: Answer, raw: bytes, is_cut: bool) -> HttpResponse:
        # Unpacked before secrets are hidden: none is found in what is packed. JSON in plain UTF-8 needs neither.
        is_success = 200 <= response.status < 300
        encoding = response.headers.get("Content-Encoding", "")
        if encoding or not raw.startswith(b"{") or raw.startswith(b"{\0"):
            raw, is_longer = _unpack(raw, encoding, MAX_BODY if is_success else MAX_ERROR_BODY)
            is_cut = is_cut or is_longer
        hide = self._redactor.hide_secrets if is_success else self._redactor.hide_all
        # Headers may hold secrets, but hardly ever do: one search over all of them is cheaper than one for each.
        given = dict(response.headers.items())
        written, names = _kept_names(tuple(given))
        values = [given[name] for name in written]
        all_values = "\n".join(values)
        joined = "\n".join((*written, all_values)).encode("utf-8", "surrogatepass")
        if len(all_values) > _MAX_HEADER or not joined.isascii() or hide(joined) is not joined:
            names = tuple([_hidden(name, hide).lower() for name in written])
            values = [_hidden(value, hide)[:_MAX_HEADER] for value in values]
        return HttpResponse(response.status, dict(zip(names, values, strict=True)), hide(raw), is_cut)

    def _as_failure(self, error: Exception) -> Failure:
        # Plain HTTP on one side and TLS on the other shows in three ways: where TLS finds no TLS, where the answer to
        # plain HTTP is a TLS alert, and (in `post`) where a server answers 400 and says so. No retry helps.
        if isinstance(error, Unsent):
            cause, cases = error.cause, _BEFORE_IT_WAS_SENT
            tls_error = cause.os_error if isinstance(cause, aiohttp.ClientConnectorSSLError) else None
            is_wrong_scheme = getattr(tls_error, "reason", "") in _PLAIN_HTTP
        else:
            cause, cases = error, _ONCE_SENT
            is_wrong_scheme = isinstance(cause, aiohttp.ClientResponseError) and _TLS_ALERT in cause.message
        kind, text = next((kind, text) for class_, kind, text in cases if isinstance(cause, class_))
        if is_wrong_scheme:
            kind = FailureKind.WRONG_SCHEME
        elif kind is FailureKind.UNCONNECTED and is_lack_of_descriptors(cause):
            kind = FailureKind.NO_DESCRIPTORS
            if not self._has_said_crowded:
                self._has_said_crowded = True
                self._say(_CROWDED.format(host=self._endpoint.netloc))
        message = text.format(host=self._endpoint.netloc, timeout_s=self._timeout_s, why=_why(cause))
        message = self._redactor.hide_in_text(" ".join(message.split()))[:_MAX_MESSAGE]

        # While nothing has ever been answered, the settings are the likeliest cause.
        if not self._has_answered:
            if kind is FailureKind.UNCONNECTED and self._unused_proxy:
                message += f"; {self._unused_proxy} is set but not used; set endpoint.trust_env = true to use it"
            elif isinstance(cause, aiohttp.ServerDisconnectedError) and self._endpoint.scheme == "http":
                message += "; does it expect https?"
        return Failure(kind, message)


# What an exception means and its message. The first class that fits counts, so the most specific ones come first.
#
# The line between the two tables decides about money. Before there was a connection nothing can have been billed. After
# that a request that brought no answer may have been: the server works on when the connection is lost.
_Cases = tuple[tuple[type[Exception], FailureKind, str], ...]
# fmt: off
_BEFORE_IT_WAS_SENT: _Cases = (
    (aiohttp.ClientConnectorCertificateError, FailureKind.UNTRUSTED,
     "the certificate of {host} is not trusted: {why}; set endpoint.ca_file to your own authority's"),
    (aiohttp.ClientConnectorSSLError, FailureKind.UNCONNECTED,
     "no secure connection to {host}: {why}; does it serve https at all?"),
    (aiohttp.ClientConnectorDNSError, FailureKind.UNCONNECTED, "the host name in {host} is not known: {why}"),
    (aiohttp.ClientProxyConnectionError, FailureKind.UNCONNECTED, "no connection to the proxy: {why}"),
    (aiohttp.ClientHttpProxyError, FailureKind.UNCONNECTED, "the proxy refuses to connect to {host}: {why}"),
    (aiohttp.ServerDisconnectedError, FailureKind.UNCONNECTED,
     "the proxy closed the connection instead of connecting to {host}"),
    (TimeoutError, FailureKind.UNCONNECTED, "no connection to {host} in time"),
    (Exception, FailureKind.UNCONNECTED, "no connection to {host}: {why}"),
)
_ONCE_SENT: _Cases = (
    (TimeoutError, FailureKind.TIMED_OUT, "no complete answer from {host} within {timeout_s:g} s"),
    (aiohttp.ClientPayloadError, FailureKind.DISCONNECTED, "the answer of {host} breaks off: {why}"),
    (aiohttp.ClientResponseError, FailureKind.UNREADABLE, "the answer of {host} cannot be read as HTTP: {why}"),
    (aiohttp.ServerDisconnectedError, FailureKind.DISCONNECTED, "{host} closed the connection without an answer"),
    (Exception, FailureKind.DISCONNECTED, "the connection to {host} was lost: {why}"),
)
# fmt: on


_WANTS_HTTPS = re.compile(
    rb"plain http request was sent to https port|http request to an https server|plain http to an ssl-enabled server"
    rb"|combination of host and port requires tls",
    re.IGNORECASE,
)
_PLAIN_HTTP = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
_TLS_ALERT = "\\x15\\x03"


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = error.certificate_error
        return reason.verify_message if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error) or type(error.os_error).__name__
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"{error.status} {error.message}"
    if isinstance(error, aiohttp.ClientResponseError):  # no server sent its status
        return error.message
    return str(error) or type(error).__name__


_GZIP, _ZLIB, _RAW_DEFLATE = 31, 15, -15  # zlib's wbits
_MOST_MEMBERS = 16  # of a gzip body; each costs a copy of the rest
_MOST_LAYERS = 4  # a relay may pack what was packed already
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WIDE_MARKS = {
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
_WIDE_ZEROS = {  # as RFC 4627 distinguishes them: JSON begins with two characters of ASCII
    "x000": "utf-32-le",
    "000x": "utf-32-be",
    "x0x0": "utf-16-le",
    "0x0x": "utf-16-be",
}


def _unpack(raw: bytes, encoding: str, most: int) -> tuple[bytes, bool]:
    """The body unpacked and in UTF-8, as whoever reads it later would unpack it, and whether there was more."""
    # Secrets are found only in what is unpacked and in UTF-8; so whatever a later reader would still unpack must be
    # unpacked here. A body that is packed more often than anybody packs is dropped, since it may hold one.
    is_cut = False
    for _ in range(_MOST_LAYERS):
        plain, is_longer = _decode(raw, encoding, most)
        is_cut = is_cut or is_longer
        if plain is raw:
            return _in_utf8(raw)[:most], is_cut
        raw, encoding = plain, ""
    return (b"", True) if raw.startswith(_PACKED) else (_in_utf8(raw)[:most], is_cut)


def _in_utf8(raw: bytes) -> bytes:
    """A body in UTF-16 or UTF-32 as UTF-8. Its mark shows it, or the places of the zeros in its first letters."""
    marked = raw.lstrip(b" \t\r\n")
    for mark, encoding in _WIDE_MARKS.items():
        if marked.startswith(mark):
            return _BYTE_ORDER_MARK + marked[len(mark) :].decode(encoding, "replace").encode()
    wide = _WIDE_ZEROS.get("".join("x0"[byte == 0] for byte in raw[:4]))
    return raw if wide is None else raw.decode(wide, "replace").encode()


def _decode(raw: bytes, encoding: str, most: int) -> tuple[bytes, bool]:
    """At most `most` bytes of the body without its compression, and whether there was more.

    Recognised by its first bytes rather than by the header, which is wrong now and then. What cannot be decoded stays
    as it is.
    """
    most = min(most, max(ALWAYS_EXPANDED, MAX_EXPANSION * len(raw)))
    if raw.startswith(GZIP_MAGIC):
        windows: tuple[int, ...] = (_GZIP,)
    elif encoding.strip().lower() == "deflate":
        windows = (_ZLIB, _RAW_DEFLATE)
    elif raw.startswith(ZLIB_MAGICS):
        windows = (_ZLIB,)
    else:
        return raw, False
    for window in windows:
        with contextlib.suppress(zlib.error):
            whole = _inflate(raw, window, most + 1)
            return whole[:most], len(whole) > most
    return raw, False


def _inflate(raw: bytes, window: int, most: int) -> bytes:
    """At most `most` bytes; of a body that breaks off, its start. Raises zlib.error."""
    whole = b""
    for _ in range(_MOST_MEMBERS):
        stream = zlib.decompressobj(window)
        whole += stream.decompress(raw, most - len(whole))
        if window == _RAW_DEFLATE and not stream.eof and len(whole) < most:
            raise zlib.error("plain text, most likely: raw deflate has no mark")
        raw = stream.unused_data
        if len(whole) >= most or not raw.startswith(GZIP_MAGIC):
            break
    return whole


def _hidden(text: str, hide: Callable[[bytes], bytes]) -> str:
    return hide(text.encode("utf-8", "replace")).decode()


@lru_cache(maxsize=16)  # a server's names repeat; one that invents them does not fill the memory
def _kept_names(written: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of these headers that are kept, as they are written and in lower case."""
    kept = [
        (name, lower) for name in written if (lower := name.lower()) in KEPT_HEADERS or lower.startswith(KEPT_FAMILIES)
    ]
    return tuple([name for name, _ in kept]), tuple([lower for _, lower in kept])


def _checked_url(url: str, *, has_secret: bool) -> SplitResult:
    """Raises JobError, without quoting the URL: it may hold a password."""
    parsed, host = _parsed(url)
    if parsed is None or parsed.scheme not in ("http", "https") or not host:
        raise JobError("endpoint.url is not an http or https URL", hint='write it as in "https://api.openai.com/v1"')
    if "@" in parsed.netloc:
        raise JobError("endpoint.url holds a user or password", hint="use endpoint.api_key and endpoint.auth")
    if parsed.scheme == "http" and has_secret and not _is_this_machine(host):
        raise JobError(
            f"endpoint.url would send the key to {host} unencrypted",
            hint="use https; or set endpoint.allow_http_key = true, for a gateway in a network of your own",
        )
    return parsed


def _parsed(url: str) -> tuple[SplitResult | None, str]:
    """The URL and its host in lower case; None where it is not a URL."""
    try:
        parsed = urlsplit(url)
        _ = parsed.port  # checked by being asked for
        return parsed, parsed.hostname or ""
    except ValueError:
        return None, ""


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _proxy_for(endpoint: SplitResult) -> tuple[str, tuple[str, ...]]:
    """The URL of the proxy that the environment names for this host, and the secrets in it; both empty where there is
    none, as always on the way to this machine. Raises JobError."""
    host = endpoint.hostname or ""
    proxies = urllib.request.getproxies()
    written = proxies.get(endpoint.scheme) or proxies.get("all")
    if not written or _is_this_machine(host) or urllib.request.proxy_bypass(host):
        return "", ()
    url = written if "://" in written else f"http://{written}"
    proxy, proxy_host = _parsed(url)
    if proxy is None or proxy.scheme not in ("http", "https") or not proxy_host:
        raise JobError(
            f"the proxy that the environment names for {endpoint.scheme} is neither http nor https",
            hint=f"set {endpoint.scheme}_proxy, or endpoint.trust_env = false",
        )
    if not proxy.password:
        return url, ()
    user, password = unquote(proxy.username or ""), unquote(proxy.password)
    return url, (password, proxy.password, base64.b64encode(f"{user}:{password}".encode()).decode())


def _unused_proxy(endpoint: SplitResult) -> str:
    """The variable that names a proxy for this host; empty where there is none."""
    host = endpoint.hostname or ""
    if _is_this_machine(host) or urllib.request.proxy_bypass(host):
        return ""
    names = [f"{scheme}_proxy" for scheme in (endpoint.scheme, "all")]
    return next((name for one in names for name in (one, one.upper()) if os.environ.get(name)), "")
