"""Makes harness/apiserver/fields.json of the kubernetes client's models: python -m tests.serve.fields"""

from __future__ import annotations

import json
import re
from pathlib import Path

from harness.kube.resources import KINDS

FILE = Path(__file__).resolve().parents[2] / "harness" / "apiserver" / "fields.json"
SIMPLE = {"str": "string", "int": "integer", "bool": "boolean", "float": "number", "datetime": "time", "object": "any"}


def text() -> str:
    """Every type reachable from the served kinds, with the names and types of its fields; one type per line."""
    from kubernetes.client import models

    found: dict[str, dict[str, str]] = {}
    left = [kind.model for kind in KINDS]
    while left:
        if (name := left.pop()) in found:
            continue
        model = getattr(models, name)
        found[name] = fields = {}
        for field, type_ in sorted(model.openapi_types.items(), key=lambda item: model.attribute_map[item[0]]):
            known = _known(model, field)
            said = re.sub(r"\w+", lambda word: SIMPLE.get(word[0], word[0]), type_)
            if said == "any" and {"int", "str"} <= set(re.findall(r"\w+", str(known.annotation))):
                said = "number or name"
            fields[model.attribute_map[field]] = ("!" if known.is_required() else "") + said
            left += [
                word for word in re.findall(r"\w+", type_) if hasattr(getattr(models, word, None), "openapi_types")
            ]
    lines = [f"  {json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _known(model, field: str):
    """The field, which is renamed where Python has the word."""
    return model.model_fields.get(field) or model.model_fields[next(n for n in model.model_fields if field in f"_{n}")]


if __name__ == "__main__":
    FILE.write_text(text())
