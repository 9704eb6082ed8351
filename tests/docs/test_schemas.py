"""docs/schemas: the commands' output matches their schemas, and every schema is documented and checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from harness.cli import main

from .commands import ROOT

SCHEMAS = {path.name: json.loads(path.read_text()) for path in sorted((ROOT / "docs" / "schemas").glob("*.json"))}
REGISTRY: Registry = Registry().with_resources((name, Resource.from_contents(each)) for name, each in SCHEMAS.items())
DEMO = "recordings/demo.jsonl"
CASE = "harness/conformance/corpus/cases/001-noep-reject-all-destinations.json"
ELSEWHERE = ("bench.json", "conformance.json", "external.json")
"""Checked where such commands run: tests/bench, tests/conformance, tests/external."""
IN_MEMORY = ["--kernel", "memory", "--no-verify", "--until", "5s"]
WRITTEN = {
    "cases.json": ["trace", "--cases", CASE, "--mode", "nftables", "--json", "{out}"],
    "chaos-list.json": ["chaos", "list", "--json"],
    "compare.json": ["compare", DEMO, "--modes", "iptables,nftables", *IN_MEMORY, "--json", "{out}"],
    "diff.json": ["diff", DEMO, "--json"],
    "doctor.json": ["doctor", "--json"],
    "fleet.json": ["fleet", DEMO, "--workers", "0", "--until", "5s", "--what-if", "hints=off", "--json", "{out}"],
    "inspect.json": ["inspect", DEMO, "--json"],
    "redact.json": ["redact", DEMO, "{folder}/redacted.jsonl", "--report", "{out}"],
    "replay.json": ["replay", DEMO, "--until", "2s", "--json", "{out}"],
    "trace.json": [
        "trace", DEMO, "--from", "external:203.0.113.7", "--to", "svc:contingency-team/users-gateway:http",
        "--json", "{out}",
    ],
    "tune.json": ["tune", DEMO, "--until", "20s", "--periods", "0,1s,5s", "--json", "{out}"],
    "validate.json": ["validate", DEMO, "--json"],
    "upgrade.json": ["compare", DEMO, "--modes", "iptables", "--kube-versions", "1.30,1.37", "--json", "{out}"],
}  # fmt: skip


def check(schema: str, found: Any) -> None:
    """AssertionError naming each place of `found` that is not as the schema says, or that it does not know."""
    errors = Draft202012Validator(SCHEMAS[schema], registry=REGISTRY).iter_errors(found)
    assert [f"{error.json_path}: {error.message[:200]}" for error in errors] == []
    assert list(unknown(SCHEMAS[schema], found, "$", SCHEMAS[schema])) == []


def unknown(schema: dict[str, Any], found: Any, path: str, root: dict[str, Any]) -> Iterator[str]:
    """Fields without a schema: a new output field must be documented."""
    if "$ref" in schema:
        root = SCHEMAS.get(schema["$ref"], root)
        schema = root["$defs"]["percentiles"] if schema["$ref"].startswith("#") else root
    if isinstance(found, dict) and "properties" in schema:
        rest = schema.get("additionalProperties")
        for name, value in found.items():
            if name in schema["properties"]:
                yield from unknown(schema["properties"][name], value, f"{path}.{name}", root)
            elif rest is None:
                yield f"{path}.{name}"
    for value in found if isinstance(found, list) else ():
        yield from unknown(schema.get("items", {}), value, f"{path}[]", root)


def written(command: list[str], folder: Path) -> Any:
    out = folder / "out.json"
    done = CliRunner().invoke(main, [word.format(out=out, folder=folder) for word in command])
    assert done.exit_code in (0, 1), done.output
    return json.loads(out.read_text() if out.exists() else done.stdout)


@pytest.mark.parametrize("schema", WRITTEN)
def test_output_of_every_command_matches_its_schema(schema, tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)  # in memory nothing is verified, which CI refuses
    check(schema, written(WRITTEN[schema], tmp_path))


def test_two_results_compared(tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    result = tmp_path / "result.json"
    result.write_text(json.dumps(written(["replay", DEMO, *IN_MEMORY, "--json", "{out}"], tmp_path)))
    check("changes.json", written(["compare", str(result), str(result), "--json", "{out}"], tmp_path))


def test_verdicts():
    folders = sorted((ROOT / "tests" / "chaos_report").rglob("verdict.json"))
    assert folders
    for path in folders:
        check("verdict.json", json.loads(path.read_text()))


def test_every_schema_is_valid_listed_and_checked():
    page = (ROOT / "docs" / "schemas.md").read_text()
    for name, schema in SCHEMAS.items():
        Draft202012Validator.check_schema(schema)
        assert f"schemas/{name}" in page
    assert set(SCHEMAS) == {*WRITTEN, "changes.json", "verdict.json", *ELSEWHERE}
