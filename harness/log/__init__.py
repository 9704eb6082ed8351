"""Reads recordings, and kubectl output, as one stream of events.

from harness.log import open_source
with open_source("recordings/demo.jsonl") as recording:
    for event in recording: ...
"""

from harness.log.errors import RecordingError
from harness.log.source import Recording, open_source
from harness.log.writer import initial_events_end, write_recording

__all__ = ["Recording", "RecordingError", "initial_events_end", "open_source", "write_recording"]
