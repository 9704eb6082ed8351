"""The control socket: both ends agree on questions and answers."""

from __future__ import annotations

from typing import get_type_hints

from harness.lab.control import LabClient
from harness.lab.operations import Operations


def test_the_client_decodes_every_answer_as_what_the_lab_encodes():
    operations = {name: method for name, method in vars(Operations).items() if not name.startswith("_")}
    answers = {name: get_type_hints(method)["return"] for name, method in operations.items() if name != "dispatch"}
    asked = {name: get_type_hints(getattr(LabClient, name))["return"] for name in answers if hasattr(LabClient, name)}
    assert asked == {name: answer for name, answer in answers.items() if answer is not type(None)}
