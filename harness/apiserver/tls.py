"""Certificates: given as files, or made on the fly by the openssl command for loopback."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

DAYS = "30"


class TlsError(RuntimeError):
    """No usable certificate; the message says why."""


class Tls(NamedTuple):
    """What a server needs, and the PEM by which a client knows it; None when that is not ours to say."""

    context: ssl.SSLContext
    authority: bytes | None


def from_files(certificate: str, key: str) -> Tls:
    """A certificate chain and its key; TlsError when they cannot be read or do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
        return Tls(context, Path(certificate).read_bytes())
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"{certificate}, {key}: not a certificate and its key: {error}") from None


def self_signed(host: str) -> Tls:
    """A certificate of its own authority for `host` and loopback; the key is on disk only while it is read."""
    with tempfile.TemporaryDirectory(prefix="harness-serve-") as folder:
        certificate, key = Path(folder, "cert.pem"), Path(folder, "key.pem")
        command = [
            "openssl", "req", "-x509", "-nodes", "-days", DAYS, "-subj", "/CN=harness-serve",
            "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", key, "-out", certificate,
            "-addext", f"subjectAltName={','.join(_names(host))}",
            "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except FileNotFoundError:
            raise TlsError("openssl is not installed; install it, or give --tls-cert and --tls-key") from None
        if done.returncode:
            raise TlsError(f"openssl: {done.stderr.strip()}")
        return from_files(str(certificate), str(key))


def _names(host: str) -> list[str]:
    names = ["DNS:localhost", "IP:127.0.0.1", "IP:::1"]
    try:
        ipaddress.ip_address(host)
        own = f"IP:{host}"
    except ValueError:
        own = f"DNS:{host}"
    return names if own in names or host in ("0.0.0.0", "::") else [*names, own]
