"""A certificate for the API servers of these tests: a restarted one must show the one that clients know."""

from __future__ import annotations

import subprocess

import pytest


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> tuple[str, str]:
    """(certificate, key), both files, for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    names = str(folder / "server.crt"), str(folder / "server.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=lab", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-out", names[0], "-keyout", names[1]], check=True, capture_output=True)
    return names


@pytest.fixture
def lab(request, tmp_path, namespace, certificate):
    """An empty lab, in nftables mode unless a test asks for another."""
    from tests.server.lab import Lab

    with Lab(tmp_path, namespace, certificate, getattr(request, "param", "nftables")) as made:
        yield made
