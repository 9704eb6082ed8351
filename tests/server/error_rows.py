"""Rows for the errors of a mode's own block, and what all rows of errors are made of."""

from __future__ import annotations

from typing import NamedTuple

from engine.server.config.configuration import KubeProxyConfiguration, replace
from engine.server.config.duration import Duration

ROOT = "KubeProxyConfiguration"
SECOND = Duration.of(1)


class Row(NamedTuple):
    """Fields by path, and the errors that they cause; `version` is the judging Kubernetes release."""

    name: str
    fields: dict[str, object]
    errors: list[str]
    version: tuple[int, int] = (1, 31)


def configured(fields: dict[str, object]) -> KubeProxyConfiguration:
    """The defaults with some fields set, by path."""
    configuration = KubeProxyConfiguration()
    for path, value in fields.items():
        configuration = _set(configuration, path.split("."), value)
    return configuration


def _set(struct, path, value):
    return replace(struct, **{path[0]: _set(getattr(struct, path[0]), path[1:], value) if path[1:] else value})


def bad(path: str, value: str, detail: str) -> str:
    return f"{ROOT}.{path}: Invalid value: {value}: {detail}"


NOT_NEGATIVE = "must be greater than or equal to 0"
IPTABLES, IPVS, NFTABLES = (f"KubeProxy{mode}Configuration" for mode in ("IPTables", "IPVS", "NFTables"))
CONNTRACK = "KubeProxyConntrackConfiguration"
BLANK = "or blank (blank means the best-available proxy [currently iptables])"
ALPHA = "Forbidden: Feature LoggingAlphaOptions is disabled"


def periods(block: str, name: str, mode: str) -> list[Row]:
    """The rows that every mode's block shares."""
    chosen = {"mode": mode}
    return [
        Row(
            f"{mode}: sync period of 0",
            chosen | {f"{block}.sync_period": Duration(0), f"{block}.min_sync_period": Duration(0)},
            [bad(f"{name}.SyncPeriod", '"0s"', "must be greater than 0")],
        ),
        Row(
            f"{mode}: negative sync period is also below the minimum",
            chosen | {f"{block}.sync_period": Duration(-SECOND), f"{block}.min_sync_period": Duration(0)},
            [
                bad(f"{name}.SyncPeriod", '"-1s"', "must be greater than 0"),
                bad(f"{name}.SyncPeriod", '"0s"', f"must be greater than or equal to {ROOT}.{name}.MinSyncPeriod"),
            ],
        ),
        Row(
            f"{mode}: negative minimum",
            chosen | {f"{block}.min_sync_period": Duration(-SECOND)},
            [bad(f"{name}.MinSyncPeriod", '"-1s"', NOT_NEGATIVE)],
        ),
        Row(
            f"{mode}: minimum above the sync period",
            chosen | {f"{block}.sync_period": SECOND, f"{block}.min_sync_period": Duration.of(5)},
            [bad(f"{name}.SyncPeriod", '"5s"', f"must be greater than or equal to {ROOT}.{name}.MinSyncPeriod")],
        ),
    ]


def masquerade(block: str, name: str, mode: str) -> list[Row]:
    detail = "must be within the range [0, 31]"
    chosen = {"mode": mode}
    return [
        Row(
            f"{mode}: bit -10", chosen | {f"{block}.masquerade_bit": -10}, [bad(f"{name}.MasqueradeBit", "-10", detail)]
        ),
        Row(f"{mode}: bit 32", chosen | {f"{block}.masquerade_bit": 32}, [bad(f"{name}.MasqueradeBit", "32", detail)]),
        Row(f"{mode}: bit 31", chosen | {f"{block}.masquerade_bit": 31}, []),
        Row(f"{mode}: bit 0", chosen | {f"{block}.masquerade_bit": 0}, []),
    ]


def not_negative(block: str, fields: dict[str, str], name: str, chosen: dict[str, object], less: object) -> list[Row]:
    shown = f'"{less}"' if isinstance(less, Duration) else str(less)
    return [
        Row(
            f"{name}.{there} below 0", chosen | {f"{block}.{here}": less}, [bad(f"{name}.{there}", shown, NOT_NEGATIVE)]
        )
        for here, there in fields.items()
    ]


BLOCKS = [
    *masquerade("iptables", IPTABLES, "iptables"),
    *masquerade("nftables", NFTABLES, "nftables"),
    *periods("iptables", IPTABLES, "iptables"),
    *periods("ipvs", IPVS, "ipvs"),
    *periods("nftables", NFTABLES, "nftables"),
    Row(
        "the iptables block is judged in every mode",
        {"mode": "ipvs", "iptables.masquerade_bit": 40},
        [bad(f"{IPTABLES}.MasqueradeBit", "40", "must be within the range [0, 31]")],
    ),
    Row("other modes' blocks are not", {"ipvs.sync_period": Duration(0), "nftables.sync_period": Duration(0)}, []),
    Row("nor ipvs's in mode nftables", {"mode": "nftables", "ipvs.exclude_cidrs": ("x",)}, []),
    *not_negative(
        "ipvs",
        {"tcp_timeout": "TCPTimeout", "tcp_fin_timeout": "TCPFinTimeout", "udp_timeout": "UDPTimeout"},
        IPVS,
        {"mode": "ipvs"},
        Duration(-SECOND),
    ),
    *not_negative("conntrack", {"max_per_core": "MaxPerCore", "min": "Min"}, CONNTRACK, {}, -1),
    *not_negative(
        "conntrack",
        {
            "tcp_established_timeout": "TCPEstablishedTimeout",
            "tcp_close_wait_timeout": "TCPCloseWaitTimeout",
            "udp_timeout": "UDPTimeout",
            "udp_stream_timeout": "UDPStreamTimeout",
        },
        CONNTRACK,
        {},
        Duration.parse("-1m30s"),
    ),
    *not_negative("client_connection", {"burst": "Burst"}, "ClientConnection", {}, -5),
    Row(
        "all conntrack values 0",
        {"conntrack.max_per_core": 0, "conntrack.min": 0, "conntrack.tcp_established_timeout": Duration(0)},
        [],
    ),
    Row(
        "excluded block",
        {"mode": "ipvs", "ipvs.exclude_cidrs": ("10.0.0.0/8", "10.0.0.1")},
        [bad(f"{IPVS}.ExcludeCidrs[1]", '"10.0.0.1"', "must be a valid CIDR")],
    ),
]
