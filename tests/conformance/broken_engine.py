"""The engine with a fault: `python broken_engine.py FLAG...` takes endpoints that drain for ready ones."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

import engine.manifest
from engine.model import Endpoint
from engine.server.main import main

_right = engine.manifest._endpoint


def _wrong(*arguments: Any) -> Endpoint:
    found = _right(*arguments)
    return msgspec.structs.replace(found, ready=found.usable, terminating=False)


engine.manifest._endpoint = _wrong

if __name__ == "__main__":
    sys.exit(main())
