"""Certificates to serve with, made by openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificate:
    file: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context


def make_certificate(folder: Path, name: str, *, days: int = 2) -> Certificate:
    """One that its holder has signed, for a name such as "DNS:api.example"; with `days` below 0 an expired one."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, so there is no certificate to test with")
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    command = f"{openssl} req -x509 {key} -days {days} -subj /CN=test -addext subjectAltName={name}"
    subprocess.run(
        [*command.split(), "-out", made.file, "-keyout", made.key], check=True, capture_output=True, timeout=60
    )
    return made
