"""Conversion between a configuration file's text and `KubeProxyConfiguration` (CFG-12, CFG-14).

YAML or JSON -> values -> check of kind and unknown fields -> typed values -> defaults for zero values
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Struct

from engine.server.config import yaml_text
from engine.server.config.configuration import (
    API_VERSION,
    HEALTHZ_PORT,
    KIND,
    METRICS_PORT,
    ConfigurationError,
    KubeProxyConfiguration,
    replace,
)
from engine.server.config.duration import Duration
from engine.server.config.netaddr import parse_ip, with_port
from engine.server.config.quantity import Quantity

LENIENT = "Using lenient decoding as strict decoding failed"
_GO_TYPES = {"str": "string", "int": "int32", "bool": "bool"}
_JSON_TYPES = {"str": "string", "int": "number", "float": "number"}
_WRONG_TYPE = re.compile(r"Expected `(str|int|bool)`, got `(str|int|float|bool|array|object)` - at `\$\.(\w+)`")
_OMITTED_WHEN_EMPTY = ("featureGates", "splitStream", "vmodule", "windowsRunAsService")
_ZERO_IS_DEFAULT = {
    "": ("bind_address", "config_sync_period"),
    "client_connection": ("content_type", "qps", "burst"),
    "logging": ("format", "flush_frequency"),
    "iptables": ("sync_period", "min_sync_period"),
    "ipvs": ("sync_period",),
    "nftables": ("sync_period", "min_sync_period"),
}


class Decoded(NamedTuple):
    """A configuration, and why strict decoding failed ("" if it did not)."""

    configuration: KubeProxyConfiguration
    complaint: str


def decode(text: str | bytes) -> Decoded:
    """Decode a file's text; ConfigurationError if lenient decoding fails too.

    In strict decoding, unknown fields and duplicate keys are errors; in lenient decoding the former are ignored
    and the last of the latter is used.
    """
    try:
        raw, repeated = yaml_text.load(text)
        raw = _without_nulls({} if raw is None else raw)
        _check_kind(raw)
        unknown = [f'unknown field "{path}"' for path in _unknown(KubeProxyConfiguration, raw)]
        # The default depends on bindAddress, so an absent address must be distinguished from a given one.
        raw = {"healthzBindAddress": "", "metricsBindAddress": ""} | raw
        _accept_plain_nanoseconds(raw)
        configuration = msgspec.convert(raw, KubeProxyConfiguration, dec_hook=_read)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigurationError(f"failed to decode: {_in_go_words(str(error))}") from None
    except RecursionError:
        raise ConfigurationError("failed to decode: nested too deeply") from None
    complaints = ", ".join([*unknown, *repeated])
    return Decoded(with_defaults(configuration), complaints and f"strict decoding error: {complaints}")


def encode(configuration: KubeProxyConfiguration) -> str:
    """The v1alpha1 YAML that `decode` reads back as the same value."""
    built = msgspec.to_builtins(configuration, enc_hook=str)
    return yaml_text.dump({"apiVersion": API_VERSION, "kind": KIND} | _without_empty(built))


def with_defaults(configuration: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """Replace zero values that stand for the default (CFG-02, CFG-03); idempotent."""
    for block, names in _ZERO_IS_DEFAULT.items():
        now = getattr(configuration, block) if block else configuration
        fresh = type(now)()
        now = replace(now, **{name: getattr(now, name) or getattr(fresh, name) for name in names})
        configuration = replace(configuration, **{block: now}) if block else now
    address = parse_ip(configuration.bind_address)
    any_ip, loopback = ("0.0.0.0", "127.0.0.1") if address is not None and len(address) == 4 else ("::", "::1")
    return replace(
        configuration,
        healthz_bind_address=with_port(configuration.healthz_bind_address or any_ip, HEALTHZ_PORT),
        metrics_bind_address=with_port(configuration.metrics_bind_address or loopback, METRICS_PORT),
    )


def _check_kind(raw: Any) -> None:
    if not isinstance(raw, dict):
        raise ValueError(f"couldn't get version/kind; expected a mapping, got {type(raw).__name__}")
    for name in ("kind", "apiVersion"):
        if not isinstance(raw.get(name), str) or not raw[name]:
            raise ValueError(f"Object '{name.title() if name == 'kind' else name}' is missing")
    if (raw["apiVersion"], raw["kind"]) != (API_VERSION, KIND):
        raise ValueError(
            f'no kind "{raw["kind"]}" is registered for version "{raw["apiVersion"]}"; expected {KIND} of {API_VERSION}'
        )


def _without_nulls(value: Any) -> Any:
    """Treat null fields as absent and null items as empty, as Go does; keys are text and 1.0 is 1, as in JSON."""
    if isinstance(value, dict):
        return {str(key): _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return ["" if each is None else _without_nulls(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unknown(kind: type, raw: Any, path: str = "") -> list[str]:
    """Paths of fields that are not in the struct."""
    if get_origin(kind) is tuple and isinstance(raw, list):
        item = get_args(kind)[0]
        return [each for n, value in enumerate(raw) for each in _unknown(item, value, f"{path}[{n}]")]
    if not (isinstance(kind, type) and issubclass(kind, Struct) and isinstance(raw, dict)):
        return []
    known = {each.encode_name: each.type for each in msgspec.structs.fields(kind)}
    if not path:
        known |= {"apiVersion": str, "kind": str}
    lead = f"{path}." if path else ""
    strange = [lead + name for name in raw if name not in known]
    for name in raw.keys() & known.keys():
        strange += _unknown(known[name], raw[name], lead + name)
    return sorted(strange)


def _accept_plain_nanoseconds(raw: dict[str, Any]) -> None:
    """Accept a number for logging.flushFrequency, which no other duration allows."""
    logging = raw.get("logging")
    if isinstance(logging, dict) and type(logging.get("flushFrequency")) is int:
        raw["logging"] = logging | {"flushFrequency": f"{logging['flushFrequency']}ns"}


def _read(kind: type, value: Any) -> Any:
    """Parse durations and quantities."""
    if kind is Quantity and type(value) is int:
        return Quantity(value)
    if not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
    return Duration.parse(value) if kind is Duration else Quantity.parse(value)


def _in_go_words(complaint: str) -> str:
    """The message of Go's JSON decoder for a value of the wrong type in a top-level field; else the message itself."""
    found = _WRONG_TYPE.fullmatch(complaint)
    if found is None:
        return complaint
    wanted, got, name = found.groups()
    go_type = "v1alpha1.ProxyMode" if name == "mode" else _GO_TYPES[wanted]
    return f"json: cannot unmarshal {_JSON_TYPES.get(got, got)} into Go struct field {KIND}.{name} of type {go_type}"


def _without_empty(value: Any) -> Any:
    """Omit the fields that Kubernetes omits, write whole numbers as integers, and empty lists as null like Go."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if v or k not in _OMITTED_WHEN_EMPTY}
        return {key: _without_empty(each) for key, each in kept.items()}
    return ([_without_empty(each) for each in value] or None) if isinstance(value, list | tuple) else value
