"""Parses topic URLs and client settings.

    kafka://HOST:PORT[,HOST:PORT]/TOPIC[?config=FILE&from=POSITION&until=POSITION]

Settings have the names of Kafka's own client.properties or of kafka-python; FILE, or the environment
variable HARNESS_KAFKA_CONFIG, names such a file.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from harness.log.errors import RecordingError
from harness.log.positions import position

SCHEME = "kafka://"
ENVIRONMENT = "HARNESS_KAFKA_CONFIG"
SETTINGS = (
    "client_id", "security_protocol", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password",
    "sasl_kerberos_service_name", "sasl_kerberos_domain_name", "ssl_cafile", "ssl_certfile", "ssl_keyfile",
    "ssl_password", "ssl_crlfile", "ssl_check_hostname", "request_timeout_ms", "proxy_url",
)  # fmt: skip
"""Allowed settings: connection and authentication. Settings that make writing safe are fixed."""

ALIASES = {
    "sasl_username": "sasl_plain_username",
    "sasl_password": "sasl_plain_password",
    "ssl_ca_location": "ssl_cafile",
    "ssl_truststore_location": "ssl_cafile",
    "ssl_certificate_location": "ssl_certfile",
    "ssl_key_location": "ssl_keyfile",
    "ssl_key_password": "ssl_password",
}


@dataclass(frozen=True)
class Address:
    """A topic and how to reach it; `start` and `until` are ("seq", number), ("t", ns) or None."""

    bootstrap: tuple[str, ...]
    topic: str
    settings: dict[str, Any] = field(default_factory=dict)
    start: tuple[str, int] | None = None
    until: tuple[str, int] | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{','.join(self.bootstrap)}/{self.topic}"

    @property
    def client(self) -> dict[str, Any]:
        """Arguments that every kafka-python client takes."""
        return {"bootstrap_servers": list(self.bootstrap), "reconnect_backoff_max_ms": 2_000, **self.settings}


def parse_address(url: str) -> Address:
    """The address in `url`; RecordingError if invalid."""
    # urllib refuses an IPv6 address behind another server's.
    servers, _, rest = url.partition("://")[2].partition("/")
    path, _, options = rest.partition("?")
    topic, query = path.strip("/"), dict(parse_qsl(options, keep_blank_values=True))
    if not servers or not topic:
        raise RecordingError(url, None, "kafka://HOST:PORT/TOPIC is needed")
    unknown = query.keys() - {"from", "until", "config"}
    if unknown:
        raise RecordingError(url, None, f"unknown: {', '.join(sorted(unknown))}; from, until and config are known")
    try:
        start, until = (None if text is None else position(text) for text in map(query.get, ("from", "until")))
        return make_address(servers, topic, settings_from(query.get("config")), start, until)
    except ValueError as error:
        raise RecordingError(url, None, str(error)) from None


def make_address(
    bootstrap: str,
    topic: str,
    settings: dict[str, Any],
    start: tuple[str, int] | None = None,
    until: tuple[str, int] | None = None,
) -> Address:
    """The address of `topic` on HOST:PORT[,HOST:PORT]; ValueError for names that Kafka does not allow."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic):
        raise ValueError(f"topic {topic!r}: letters, digits, '.', '_' and '-' are allowed, at most 249")
    servers = tuple(bootstrap.split(","))
    for server in servers:
        if not re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^:\[\]/\s]+)(:\d{1,5})?", server):
            raise ValueError(f"{server!r} is not HOST:PORT")
    return Address(servers, topic, settings, start, until)


def settings_from(file: str | None, pairs: tuple[str, ...] = ()) -> dict[str, Any]:
    """Settings of a properties file (by default the environment's) and of KEY=VALUE pairs, which override them.

    ValueError for unknown settings, or a file that cannot be read.
    """
    file = file or os.environ.get(ENVIRONMENT)
    lines: list[tuple[str, str]] = []
    if file:
        try:
            text = Path(file).read_text().replace("\\\n", "")
        except OSError as error:
            raise ValueError(f"{file}: cannot be read: {error.strerror}") from None
        lines += [(f"{file}:{n}", line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    lines += [("--kafka-config", pair) for pair in pairs]
    settings: dict[str, Any] = {}
    for place, line in lines:
        if line and line[0] not in "#!":
            key, equals, value = line.partition("=")
            if not equals:
                raise ValueError(f"{place}: {line!r} is not KEY=VALUE")
            settings |= _setting(place, key.strip(), value.strip())
    return settings


def _setting(place: str, key: str, value: str) -> dict[str, Any]:
    name = key.replace(".", "_").replace("-", "_")
    if name == "sasl_jaas_config":
        found = dict(re.findall(r'(username|password)\s*=\s*"([^"]*)"', value))
        return {f"sasl_plain_{field}": text for field, text in found.items()}
    if name == "ssl_endpoint_identification_algorithm":
        return {"ssl_check_hostname": bool(value)}
    name = ALIASES.get(name, name)
    if name not in SETTINGS:
        near = difflib.get_close_matches(name, SETTINGS, 1)
        hint = f"did you mean {near[0].replace('_', '.')}?" if near else f"known are {', '.join(SETTINGS)}"
        raise ValueError(f"{place}: unknown setting {key!r}; {hint}")
    if name == "ssl_check_hostname":
        return {name: value.lower() != "false"}
    return {name: int(value) if name.endswith("_ms") and value.isdigit() else value}
