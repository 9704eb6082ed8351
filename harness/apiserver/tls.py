"""Certificates: given as files, or generated for loopback with the openssl command."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

from harness.failure import Failure
from harness.temporary import temporary_folder

DAYS = "30"


class TlsError(Failure, RuntimeError):
    """No usable certificate; the message says why."""


class Tls(NamedTuple):
    """The server's SSL context, and the CA in PEM format for clients; None if it is not ours."""

    context: ssl.SSLContext
    authority: bytes | None


def from_files(certificate: str, key: str) -> Tls:
    """Load a certificate chain and its key; TlsError if they cannot be read or do not match."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
        return Tls(context, Path(certificate).read_bytes())
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"{certificate}, {key}: not a certificate and its key: {error}") from None


def self_signed(host: str) -> Tls:
    """A certificate signed by its own CA, for `host` and loopback; if `host` means all addresses, for every address
    and the name of this machine.  The key is on disk only while it is read."""
    with temporary_folder("serve") as folder:
        certificate, key = folder / "cert.pem", folder / "key.pem"
        command = [
            "openssl", "req", "-x509", "-nodes", "-days", DAYS, "-subj", "/CN=harness-serve",
            "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", str(key), "-out", str(certificate),
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
    own = [host]
    if host in ("0.0.0.0", "::"):
        own += [socket.gethostname(), socket.getfqdn(), *_addresses()]
    return [*dict.fromkeys(map(_name, ["localhost", "127.0.0.1", "::1", *own]))]


def _name(text: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(text)}"
    except ValueError:
        return f"DNS:{text}"


def _addresses() -> list[str]:
    """The local addresses in this network namespace, of both families, from /proc."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        local = re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", Path("/proc/net/fib_trie").read_text())
        found += dict.fromkeys(local)
    with contextlib.suppress(OSError):
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
        found += [str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))) for line in lines]
    return found
