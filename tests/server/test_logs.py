"""A log line is klog's: severity, time, process, source, a quoted sentence, pairs; or JSON; by verbosity."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings

import pytest

from engine.manifest import decode_service
from engine.model import Name
from engine.server.config.configuration import Logging, LogOptions, OutputRouting, VModule
from engine.server.config.duration import Duration
from engine.server.runtime import logs


@pytest.fixture
def streams():
    """Standard output and error; the process's own log is put back afterwards."""
    root = logging.getLogger(logs.ROOT)
    kept, patterns, verbosity = root.handlers[:], logs._Settings.patterns, logs._Settings.verbosity
    # What another test has left captured would not be captured again.
    logging.captureWarnings(False)
    yield io.StringIO(), io.StringIO()
    root.handlers[:] = kept
    for name in logs.OTHERS:
        logging.getLogger(name).handlers.clear()
    logging.captureWarnings(False)
    logs._Settings.patterns, logs._Settings.verbosity = patterns, verbosity


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_text(streams):
    logs.configure(Logging(), *streams)
    log = logs.get_log("engine.server.runtime.loop")
    log.info("Sync done", family=4, full=True, took=Duration.of(90), name='a "b"\nc')
    log.warning("Slow")
    log.error(ValueError("bad"), "Sync failed", retry=2)
    log.error(None, "Gone")
    head = r"\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ test_logs\.py:\d+\] "
    wanted = [
        r'I{}"Sync done" family=4 full=true took=1m30s name="a \\"b\\"\\nc"',
        r'W{}"Slow"',
        r'E{}"Sync failed" err="bad" retry=2',
        r'E{}"Gone"',
    ]
    for line, form in zip(lines(streams[1]), wanted, strict=True):
        assert re.fullmatch(form.format(head), line), line


def test_json(streams):
    logs.configure(Logging(format="json", verbosity=2), *streams)
    log = logs.get_log("loop")
    log.info("Sync done", v=2, family=4, took=Duration.of(1), service=Name("ns", "web"))
    log.error(OSError("no"), "Sync failed")
    done, failed = map(json.loads, lines(streams[1]))
    assert done["ts"] > 1e12 and re.fullmatch(r"test_logs\.py:\d+", done["caller"])
    assert {"msg": "Sync done", "v": 2, "family": 4, "service": "ns/web"}.items() <= done.items()
    assert failed["err"] == "no" and "v" not in failed


def test_pure_modules_and_libraries_write_in_the_same_form(streams):
    """Their lines stood bare between those of JSON; an exception's stack is a pair of its line."""
    logs.configure(Logging(format="json"), *streams)
    service = {"metadata": {"name": "s"}, "spec": {"clusterIP": "10.96.0.1", "externalIPs": ["10.0.0.x"]}}
    decode_service(json.dumps(service).encode())
    try:
        raise OSError("no room")
    except OSError:
        logging.getLogger("engine.family").exception("A program of IPv%d broke", 4)
    logging.getLogger("urllib3.connectionpool").warning("Connection pool is full")
    logging.getLogger("urllib3.connectionpool").debug("unseen")
    warnings.warn("old", DeprecationWarning, stacklevel=1)
    first, second, third, fourth = map(json.loads, lines(streams[1]))
    assert first["msg"] == "Skipping invalid IP: 10.0.0.x"
    assert (second["msg"], second["err"]) == ("A program of IPv4 broke", "no room")
    assert 'raise OSError("no room")' in second["stacktrace"]
    assert (third["msg"], third["v"]) == ("Connection pool is full", 0)
    assert "DeprecationWarning: old" in fourth["msg"]
    logs.configure(Logging(), *streams)
    logging.getLogger("engine.family").error("Failed: %s", "x")
    assert re.fullmatch(r'E\d{4} .* +\d+ test_logs\.py:\d+\] "Failed: x"', lines(streams[1])[-1])


def test_verbosity_is_the_files_own_or_everyones(streams):
    settings = Logging(verbosity=1, vmodule=(VModule("loop*", 4), VModule("loop", 9), VModule("api", 0)))
    logs.configure(settings, *streams)
    names = ("loop", "api", "http")
    highest = {name: max(filter(logs.get_log(f"engine.{name}").enabled, range(10))) for name in names}
    assert highest == {"loop": 4, "api": 0, "http": 1}
    logs.get_log("loop").info("seen", v=4)
    logs.get_log("loop").info("unseen", v=5)
    assert len(lines(streams[1])) == 1


def test_split_streams(streams):
    routing = OutputRouting(split_stream=True)
    logs.configure(Logging(options=LogOptions(text=routing)), *streams)
    log = logs.get_log("x")
    log.info("one")
    log.error(None, "two")
    out, err = streams
    assert ['"one"' in lines(out)[0], '"two"' in lines(err)[0], len(lines(out)), len(lines(err))] == [True, True, 1, 1]
