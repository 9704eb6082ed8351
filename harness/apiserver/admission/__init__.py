"""The real API server's processing of a client's object before it is stored: defaults, allocation, validation.

    manifest ─► shapes (400) ─► defaults ─► allocation ─► validation (422) ─► store

For the fields that a service proxy reads: of Services, EndpointSlices and Nodes.  Source of the rules and their texts:
kubernetes/pkg/apis/{core,discovery}/{v1/defaults,validation/validation}.go, pkg/registry/core/service.
"""

from harness.apiserver.admission.admit import Admission

__all__ = ["Admission"]
