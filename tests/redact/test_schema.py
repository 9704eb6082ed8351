"""What may stay in a redacted recording is listed by hand; lists of ours must not go stale."""

from chaos.faults import FAULTS
from harness.log.redact.schema import MARKER


def test_every_fault_that_chaos_writes_keeps_its_name():
    assert MARKER["fault"] == frozenset(FAULTS)
