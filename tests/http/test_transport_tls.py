"""Certificates, proxies, and what a job file may not say about an endpoint."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certificates
import pytest
from certificates import Certificate

from batchcall.base.errors import JobError
from batchcall.base.records import FailureKind
from raw_server import KEY, answer_of, failure_of, post_to, raw_server, transport_to

pytestmark = [
    pytest.mark.sends_odd_bodies("a transport sends whatever it is given"),
    pytest.mark.usefixtures("client"),
]


@pytest.fixture(scope="module")
def make_certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Certificate]:
    return lambda name: certificates.make_certificate(tmp_path_factory.mktemp("tls"), name)


@pytest.fixture(scope="module")
def certificate(make_certificate: Callable[[str], Certificate]) -> Certificate:
    return make_certificate("IP:127.0.0.1")


async def test_a_self_signed_certificate_is_refused_and_nothing_is_sent(certificate: Certificate) -> None:
    async with raw_server(tls=certificate.context()) as server:
        failure = await failure_of(f"https://127.0.0.1:{server.port}/v1", headers={"x-api-key": KEY}, secrets=(KEY,))

    assert failure.kind is FailureKind.UNTRUSTED
    assert "certificate" in failure.message
    assert "endpoint.ca_file" in failure.message
    assert server.heads == []


async def test_a_certificate_of_ones_own_authority_is_accepted(certificate: Certificate) -> None:
    async with raw_server(tls=certificate.context()) as server:
        answer = await answer_of(f"https://127.0.0.1:{server.port}/v1", ca_file=str(certificate.file))

    assert answer.body == b"{}"


async def test_a_certificate_for_another_name_is_refused(make_certificate: Callable[[str], Certificate]) -> None:
    other = make_certificate("DNS:other.example")
    async with raw_server(tls=other.context()) as server:
        failure = await failure_of(f"https://127.0.0.1:{server.port}/v1", ca_file=str(other.file))

    assert failure.kind is FailureKind.UNTRUSTED
    assert server.heads == []


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_cannot_be_used_is_a_fault_of_the_job(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)

    with pytest.raises(JobError, match=r"ca\.pem"):
        await post_to("https://127.0.0.1:1/v1", ca_file=str(file))


# What a job file may not say


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://api.example.com/v1", "unencrypted"),
        ("http://10.0.0.7:8000/v1", "unencrypted"),
        ("http://localhost.example.com/v1", "unencrypted"),
        ("https://me:hunter2@api.example.com/v1", "user or password"),
        ("ftp://api.example.com", "not an http or https"),
        ("api.example.com/v1", "not an http or https"),
        ("", "not an http or https"),
        ("https://[::1/v1", "not an http or https"),
        ("https://api.example.com:80x/v1", "not an http or https"),
    ],
)
async def test_an_endpoint_that_cannot_be_used_safely_is_a_fault_of_the_job(url: str, complaint: str) -> None:
    with pytest.raises(JobError, match=complaint) as raised:
        await post_to(url, secrets=(KEY,))

    assert "hunter2" not in str(raised.value) + raised.value.hint


async def test_plain_http_takes_a_key_to_another_host_where_the_job_allows_it() -> None:
    async with transport_to("http://gateway.example/v1", secrets=(KEY,), allow_http_key=True):
        pass


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://localhost:1/v1", "http://[::1]:1/v1"])
async def test_plain_http_takes_a_key_to_this_machine(url: str) -> None:
    assert (await failure_of(url, secrets=(KEY,))).kind is FailureKind.UNCONNECTED


@pytest.mark.parametrize("header", [{"X-Team": "a\r\nX-Evil: 1"}, {"X\n": "a"}, {"": "a"}, {"X-Team": "\0"}])
async def test_a_header_that_would_break_the_request_is_a_fault_of_the_job(header: dict[str, str]) -> None:
    with pytest.raises(JobError, match="header"):
        await post_to("https://127.0.0.1:1/v1", headers=header)


# Proxies and other things of the environment


@pytest.fixture
def names_lead_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is one of this machine, as far as the resolver knows."""
    real = socket.getaddrinfo

    def here(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)


@pytest.mark.usefixtures("names_lead_here")
async def test_a_proxy_is_taken_from_the_environment_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server() as server, raw_server() as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:hunter2-hunter2@127.0.0.1:{proxy.port}")
        url = f"http://api.example.invalid:{server.port}/v1"
        await answer_of(url)
        assert (len(server.heads), len(proxy.heads)) == (1, 0)

        await answer_of(url, trust_env=True)

    assert (len(server.heads), len(proxy.heads)) == (1, 1)
    assert proxy.heads[0].startswith(f"POST {url}/chat/completions HTTP/1.1")
    assert "Content-Type: application/json\r\n" in proxy.heads[0]
    assert f"Basic {base64.b64encode(b'me:hunter2-hunter2').decode()}" in proxy.heads[0]


async def test_no_proxy_stands_on_the_way_to_this_machine(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    async with raw_server() as server:
        assert (await answer_of(server.url, trust_env=True)).status == 200


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 407 bad me:hunter2-hunter2 bWU6aHVudGVyMi1odW50ZXIy\r\nContent-Length: 0\r\n\r\n", b""],
    ids=["refuses", "hangs up"],
)
async def test_a_proxy_that_does_not_connect_leaves_the_request_unsent_and_its_password_is_hidden(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    async with raw_server(answer) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:hunter2-hunter2@127.0.0.1:{proxy.port}")
        failure = await failure_of("https://api.example.invalid/v1", trust_env=True)

    assert failure.kind is FailureKind.UNCONNECTED
    assert "hunter2" not in failure.message
    assert "bWU6aHVudGVyMi1" not in failure.message
    assert "proxy" in failure.message


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "api-key", "x-goog-api-key"])
async def test_a_proxy_does_not_get_the_key(monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    async with raw_server(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        await failure_of("https://api.example.invalid/v1", trust_env=True, headers={header: KEY}, secrets=(KEY,))

    assert proxy.heads[0].startswith("CONNECT api.example.invalid:443 ")
    assert KEY not in proxy.heads[0]


async def test_a_proxy_that_is_not_there_leaves_the_request_unsent(
    monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{closed_port}")

    failure = await failure_of("https://api.example.invalid/v1", trust_env=True)

    assert failure.kind is FailureKind.UNCONNECTED
    assert "proxy" in failure.message


async def test_a_proxy_of_another_kind_is_a_fault_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://me:hunter2@127.0.0.1:1080")

    with pytest.raises(JobError, match="neither http nor https") as raised:
        await post_to("https://api.example.invalid/v1", trust_env=True)

    assert "hunter2" not in str(raised.value) + raised.value.hint


async def test_a_netrc_does_not_clash_with_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    async with raw_server() as server:
        await answer_of(server.url, trust_env=True, headers={"Authorization": f"Bearer {KEY}"})

    assert f"Authorization: Bearer {KEY}\r\n" in server.heads[0]
    assert "Basic" not in server.heads[0]
