"""YAML as Kubernetes reads it: no dates, no base-60 numbers, and duplicate keys are reported."""

from __future__ import annotations

import re
from typing import Any

import yaml

_DROPPED = ("int", "float", "timestamp")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", re.ASCII)
_DIGITS = list("-+.0123456789")


class YamlError(ValueError):
    """Invalid YAML; the message includes the line."""


def _resolve_numbers(resolver: type[_Loader | _Dumper]) -> None:
    """Replace PyYAML's numbers and dates by Kubernetes' numbers, for reading and for writing alike."""
    kept = {
        first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] not in _DROPPED]
        for first, forms in resolver.yaml_implicit_resolvers.items()
    }
    resolver.yaml_implicit_resolvers = kept
    for tag, form in (("int", _INT), ("float", _FLOAT)):
        resolver.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{form.pattern})$"), _DIGITS)


class _Loader(yaml.CSafeLoader):
    """Records duplicate keys; the last value is used."""

    repeated: list[str]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                self.repeated.append(f'line {key.start_mark.line + 1}: key "{key.value}" already set in map')
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return float(node.value.replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """The inverse of `_Loader`."""


_resolve_numbers(_Loader)
_resolve_numbers(_Dumper)


def load(text: str | bytes) -> tuple[Any, list[str]]:
    """The first document's value, and an error for each duplicate key; raises YamlError."""
    loader = _Loader(text)
    loader.repeated = []
    try:
        return loader.get_data(), loader.repeated
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise YamlError(f"yaml: {line}{error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise YamlError(f"yaml: {error}".replace("\n", " ")) from None
    except RecursionError:
        raise YamlError("yaml: nested too deeply") from None
    finally:
        loader.dispose()


def dump(value: Any) -> str:
    """A value of dicts, lists and scalars, keys sorted."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=True, default_flow_style=False, allow_unicode=True)
