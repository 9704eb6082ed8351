"""Recordings and what users already have, read as one stream of events.

from harness.recording import open_source
with open_source("recordings/demo.jsonl") as recording:
    for event in recording: ...
"""

from harness.recording.errors import RecordingError
from harness.recording.reader import Recording, open_source
from harness.recording.writer import initial_events_end, write_recording

__all__ = ["Recording", "RecordingError", "initial_events_end", "open_source", "write_recording"]
