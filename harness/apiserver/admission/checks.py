"""Checks of single values, with the API server's messages (apimachinery/pkg/util/validation)."""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address, ip_network

import msgspec

from harness.apiserver.errors import Cause

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_SPECIAL = (
    (("0.0.0.0/32", "::/128"), "may not be unspecified (0.0.0.0 or ::)"),
    (("127.0.0.0/8", "::1/128"), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
    (("169.254.0.0/16", "fe80::/10"), "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
    (("224.0.0.0/24", "ff02::/16"), "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
)


def shown(value: object) -> str:
    """A value as quoted in messages."""
    return msgspec.json.encode(value).decode()


def invalid(field: str, value: object, why: str) -> Cause:
    """The error for an invalid value."""
    return Cause(field, f"Invalid value: {shown(value)}: {why}")


def required(field: str, why: str = "") -> Cause:
    """The error for a missing value."""
    return Cause(field, "Required value" + (f": {why}" if why else ""), "FieldValueRequired")


def forbidden(field: str, why: str) -> Cause:
    """The error for a value that must not be set."""
    return Cause(field, f"Forbidden: {why}", "FieldValueForbidden")


def duplicate(field: str, value: object) -> Cause:
    """The error for a duplicate value."""
    return Cause(field, f"Duplicate value: {shown(value)}", "FieldValueDuplicate")


def too_many(field: str, count: int, most: int) -> Cause:
    """The error for a list that is too long."""
    return Cause(field, f"Too many: {count}: must have at most {most} items", "FieldValueTooMany")


def one_of(field: str, value: object, known: Collection[str]) -> list[Cause]:
    """The error if the value is not one of the supported ones."""
    if value in known:
        return []
    listed = ", ".join(f'"{each}"' for each in sorted(known))
    return [Cause(field, f"Unsupported value: {shown(value)}: supported values: {listed}", "FieldValueNotSupported")]


def label(field: str, value: str) -> list[Cause]:
    """RFC 1123 label."""
    return _text(field, value, _LABEL, _LABEL_TEXT, 63)


def service_name(field: str, value: str) -> list[Cause]:
    """RFC 1035 label, the name of a Service."""
    return _text(field, value, _LABEL_1035, _LABEL_1035_TEXT, 63)


def subdomain(field: str, value: str) -> list[Cause]:
    """RFC 1123 subdomain."""
    return _text(field, value, _SUBDOMAIN, _SUBDOMAIN_TEXT, 253)


def _text(field: str, value: str, form: re.Pattern[str], why: str, most: int) -> list[Cause]:
    causes = [invalid(field, value, f"must be no more than {most} characters")] if len(value) > most else []
    return causes if form.fullmatch(value) else [*causes, invalid(field, value, why)]


def port_number(field: str, value: object) -> list[Cause]:
    """1 to 65535."""
    right = isinstance(value, int) and 1 <= value <= 65535
    return [] if right else [invalid(field, value, "must be between 1 and 65535, inclusive")]


def port_number_or_name(field: str, value: int | str) -> list[Cause]:
    """A target port."""
    if isinstance(value, int):
        return port_number(field, value)
    if len(value) > 15:
        return [invalid(field, value, "must be no more than 15 characters")]
    if _PORT_NAME.fullmatch(value):
        return []
    why = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), and at least one letter (a-z)"
    return [invalid(field, value, why)]


def address(field: str, value: str) -> list[Cause]:
    """An IPv4 or IPv6 address."""
    try:
        ip_address(value)
    except ValueError:
        return [invalid(field, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    return []


def outer_address(field: str, value: str) -> list[Cause]:
    """An address that must be reachable by others: an endpoint's, or an external one."""
    if causes := address(field, value):
        return causes
    found = ip_address(value)
    return [invalid(field, value, why) for ranges, why in _SPECIAL if any(found in ip_network(each) for each in ranges)]


def network(field: str, value: str) -> list[Cause]:
    """A network in CIDR notation; host bits are allowed, as the API server allows them."""
    try:
        if "/" in value.strip():
            ip_network(value.strip(), strict=False)
            return []
    except ValueError:
        pass
    return [invalid(field, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]
