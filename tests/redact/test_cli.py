"""`harness redact`: secrets, refusals, reports, and nothing half-done left behind."""

from __future__ import annotations

import json
import stat

from click.testing import CliRunner

from harness.cli import main

DEMO = "recordings/demo.jsonl"
SECRET = "a secret of more than sixteen bytes"


def run(*arguments, **options):
    return CliRunner().invoke(main, ["redact", *map(str, arguments)], **options)


def test_a_new_key_gives_the_same_names_again(tmp_path):
    key, first, second = tmp_path / "key", tmp_path / "1.jsonl", tmp_path / "2.jsonl.zst"
    done = run(DEMO, first, "--new-key", key)
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert run(DEMO, second, "--key-file", key).exit_code == 0
    assert CliRunner().invoke(main, ["diff", str(first), str(second), "--all-fields"]).exit_code == 0
    secret = key.read_text().strip()
    assert secret not in done.output and secret not in first.read_text()


def test_the_environment_may_hold_the_key(tmp_path):
    (tmp_path / "key").write_text(SECRET + "\n")
    assert run(DEMO, tmp_path / "a", "--key-file", tmp_path / "key").exit_code == 0
    assert run(DEMO, tmp_path / "b", env={"HARNESS_REDACT_KEY": SECRET}).exit_code == 0
    assert run(DEMO, tmp_path / "c").exit_code == 0
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_the_report_counts_what_was_dropped(tmp_path):
    done = run(DEMO, tmp_path / "out.jsonl", "--report", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["events"] == 300 and report["dropped"] == {"header.generator": 1}
    assert "1  header.generator" in done.output


def test_rejections_name_a_solution(tmp_path):
    (tmp_path / "short").write_text("hush\n")
    (tmp_path / "bad.jsonl").write_text('{"format":"kube-proxy-harness/recording","version":1}\n{"seq":1\n')
    out = tmp_path / "out.jsonl"
    for arguments, message in [
        (("-", out), "save it to a file first"),
        ((DEMO, "-"), "DST must be a file"),
        ((DEMO, DEMO), "is the source itself"),
        ((DEMO, out, "--key-file", tmp_path / "none"), "cannot be read"),
        ((DEMO, out, "--key-file", tmp_path / "short"), "at least 16 are needed"),
        ((DEMO, out, "--new-key", tmp_path / "short"), "use it with --key-file"),
        ((DEMO, out, "--new-key", out, "--key-file", out), "exclude each other"),
        ((tmp_path / "bad.jsonl", out, "--new-key", tmp_path / "key"), "bad.jsonl:2: "),
        ((tmp_path / "absent", out), "absent: cannot be read"),
    ]:
        done = run(*arguments)
        assert done.exit_code == 2 and message in done.output, (arguments, done.output)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.jsonl", "short"], "nothing is left behind"


def test_an_unwritable_destination_exits_with_2(tmp_path):
    done = run(DEMO, tmp_path / "none" / "out.jsonl")
    assert done.exit_code == 2 and "cannot be written" in done.output


def test_what_kubectl_prints_can_be_redacted(tmp_path):
    listing = CliRunner().invoke(main, ["inspect", DEMO, "--at", "100"]).output
    (tmp_path / "dump.json").write_text(listing)
    assert run(tmp_path / "dump.json", tmp_path / "out.jsonl").exit_code == 0
    assert CliRunner().invoke(main, ["validate", str(tmp_path / "out.jsonl")]).exit_code == 0
