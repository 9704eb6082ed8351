"""The scope of a request: which objects it sees, and how changes appear in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from harness.apiserver import errors
from harness.apiserver.manifest import Object
from harness.apiserver.store import StoreChange
from harness.kube.resources import Kind
from harness.kube.selectors import EVERYTHING, Selector, parse_fields, parse_labels


class Scope(NamedTuple):
    """A namespace ("" for all), a label selector and a field selector."""

    namespace: str = ""
    labels: Selector = EVERYTHING
    fields: Selector = EVERYTHING

    @property
    def selective(self) -> bool:
        """Whether there are selectors."""
        return bool(self.labels.terms or self.fields.terms)

    def sees(self, found: Object) -> bool:
        """Whether the object is in scope."""
        if self.namespace and found.namespace != self.namespace:
            return False
        if not self.selective:
            return True
        return self.labels.matches(found.labels) and self.fields.matches(found.fields)

    def view(self, change: StoreChange) -> str | None:
        """The event type of `change` in this scope, None if it is invisible.

        An object that enters the scope is ADDED, one that leaves it DELETED, as in the API.
        """
        if not self.selective:
            return change.type if self.sees(change.object) else None
        before = change.previous is not None and self.sees(change.previous)
        after = change.type != "DELETED" and self.sees(change.object)
        if after:
            return "MODIFIED" if before else "ADDED"
        return "DELETED" if before else None


def scope_of(kind: Kind, namespace: str, query: Mapping[str, str]) -> Scope:
    """The scope of a list or watch; StatusError 400 for invalid selectors."""
    labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
    try:
        selector = parse_labels(labels)
    except ValueError as error:
        raise errors.bad_request(str(error)) from None
    try:
        known = ("metadata.name", "metadata.namespace", *kind.fields)
        return Scope(namespace, selector, parse_fields(fields, known))
    except ValueError as error:
        where = f'"{kind.group}/{kind.version}, Resource={kind.resource}"'
        selectors = f'label selector "{labels}", field selector "{fields}"'
        raise errors.bad_request(f"Unable to find {where} that match {selectors}: {error}") from None
