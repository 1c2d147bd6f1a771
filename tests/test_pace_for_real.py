"""The pace on a real clock and real sockets: the embedded endpoint, and nginx with `limit_req` before it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchcall import ExitCode, run_job
from batchcall.sandbox.process import Settings, open_sandbox
from running import edit, results, write_job

pytestmark = pytest.mark.alone

PER_MINUTE = 1_800
NGINX = shutil.which("nginx") or next((path for path in ("/usr/sbin/nginx",) if Path(path).exists()), None)

CONFIGURATION = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  limit_req_zone $binary_remote_addr zone=all:1m rate={per_second}r/s;
  limit_conn_zone $binary_remote_addr zone=open:1m;
  limit_req_status 429;
  server {{
    listen 127.0.0.1:{port};
    location / {{ {limit}; proxy_pass http://127.0.0.1:{upstream}; }}
  }}
}}
"""


async def test_on_the_embedded_endpoint_the_given_rate_is_kept_within_10_percent_and_nothing_refused(
    tmp_path: Path,
) -> None:
    async with open_sandbox(Settings(requests_per_minute=PER_MINUTE, latency_s=0.1)) as sandbox:
        job = write_job(
            tmp_path, url=sandbox.url, rows=150, part_rows=1_000, limits=f"requests_per_minute = {PER_MINUTE}"
        )
        edit(job, "concurrency = 8\n", "")
        began_s = time.monotonic()

        summary = await run_job(job)

        statuses = (await sandbox.ledger())["statuses"]
    assert summary.exit_code == ExitCode.OK
    assert statuses == {"200": 150}
    assert time.monotonic() - began_s <= 150 / PER_MINUTE * 60 * 1.1 + 1.0  # and a second to start and to publish


async def test_on_the_embedded_endpoint_its_headers_are_enough(tmp_path: Path) -> None:
    async with open_sandbox(Settings(requests_per_minute=PER_MINUTE, latency_s=0.1)) as sandbox:
        job = write_job(tmp_path, url=sandbox.url, rows=150, part_rows=1_000)
        edit(job, "concurrency = 8\n", "")
        began_s = time.monotonic()

        await run_job(job)

        statuses = (await sandbox.ledger())["statuses"]
    assert statuses == {"200": 150}
    took_s = time.monotonic() - began_s
    assert 150 / PER_MINUTE * 60 * 0.9 <= took_s <= 150 / PER_MINUTE * 60 * 1.1 + 1.0


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
async def test_behind_nginx_limit_req_the_given_rate_is_kept_within_10_percent_and_nothing_refused(
    tmp_path: Path,
) -> None:
    """nginx counts by the millisecond: a burst of some requests is what makes it a limit that anybody can keep."""
    rate, refused = await rate_behind_nginx(tmp_path, f"requests_per_minute = {PER_MINUTE}")

    assert rate == pytest.approx(PER_MINUTE / 60, rel=0.1)
    assert refused == 0


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
async def test_behind_nginx_limit_req_a_rate_that_nobody_tells_is_learnt_within_10_percent_and_few_are_refused(
    tmp_path: Path,
) -> None:
    """Fifteen seconds are enough to learn it: what comes after that is as fast as it gets."""
    rate, refused = await rate_behind_nginx(tmp_path, "", per_second=100, burst=20, rows=2_400)

    assert rate == pytest.approx(100, rel=0.1)
    assert refused <= 0.02 * 2_400


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
@pytest.mark.parametrize("concurrency", ['"auto"', "20"])
async def test_behind_nginx_limit_conn_as_many_are_in_flight_as_it_takes(tmp_path: Path, concurrency: str) -> None:
    """It says nothing but 503, as an overloaded server does. Three at a time of 100 ms are 30 a second."""
    async with open_sandbox(Settings(latency_s=0.1)) as sandbox:
        with nginx(tmp_path, upstream=sandbox.url, limit="limit_conn open 3") as url:
            job = write_job(tmp_path, url=url, rows=120, part_rows=120)
            edit(job, "concurrency = 8", f"concurrency = {concurrency}")
            began_s = time.monotonic()

            summary = await run_job(job)

            took_s = time.monotonic() - began_s
    assert {row["status"] for row in results(tmp_path / "out")} == {"ok"}
    assert summary.requests - 120 <= 30
    assert took_s <= 2.5 * 120 / 3 * 0.1 + 2


async def rate_behind_nginx(
    tmp_path: Path, limits: str, *, per_second: int = PER_MINUTE // 60, burst: int = 5, rows: int = 300
) -> tuple[float, int]:
    """Rows a second over the last third of the rows, and how many requests were refused."""
    async with open_sandbox(Settings(latency_s=0.1)) as sandbox:
        limit = f"limit_req zone=all burst={burst} nodelay"
        with nginx(tmp_path, upstream=sandbox.url, per_second=per_second, limit=limit) as url:
            job = write_job(tmp_path, url=url, rows=rows, part_rows=rows, limits=limits)
            edit(job, "concurrency = 8", "concurrency = 64")

            summary = await run_job(job)

    written = results(tmp_path / "out")
    assert {row["status"] for row in written} == {"ok"}
    ended = sorted(row["finished_at"] for row in written)[-rows // 3 :]
    return (len(ended) - 1) / (ended[-1] - ended[0]).total_seconds(), summary.requests - rows


@contextmanager
def nginx(folder: Path, *, upstream: str, limit: str, per_second: int = 1_000) -> Iterator[str]:
    """nginx before the upstream; the URL of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    written = CONFIGURATION.format(
        folder=folder, per_second=per_second, limit=limit, port=port, upstream=upstream.split(":")[2].split("/")[0]
    )
    (folder / "nginx.conf").write_text(written)
    assert NGINX is not None
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()
