"""doctor: findings with a cure, for the machine and for a store."""

from __future__ import annotations

import email.utils
import http.server
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.base.units import GIB, MIB
from fusecache.cli import commands, doctor_source, places
from fusecache.cli.doctor_finding import FAIL, OK, WARN, Finding
from fusecache.cli.doctor_machine import check_kernel, check_tiers
from fusecache.cli.doctor_source import check_source, clock_skew, date_url
from fusecache.cli.tier_options import TierRequest
from fusecache.contract.mount_spec import SourceSpec
from tests.support.scripted_mount import ScriptedMount


def _levels(findings: Iterator[Finding]) -> dict[str, str]:
    return {finding.check: finding.level for finding in findings}


@pytest.mark.parametrize(
    ("release", "uid", "levels"),
    [
        ("6.18.44-x", 0, {"kernel": OK, "passthrough": OK, "resend": OK}),
        ("6.9.0", 1000, {"kernel": OK, "passthrough": WARN, "resend": OK}),
        ("6.1.0-18-amd64", 0, {"kernel": OK, "passthrough": WARN, "resend": WARN}),
        ("4.4.0", 0, {"kernel": FAIL}),
    ],
)
def test_kernels(release: str, uid: int, levels: dict[str, str]) -> None:
    findings = list(check_kernel(release, uid))
    assert _levels(iter(findings)) == levels
    assert all(finding.cure for finding in findings if finding.level != OK)


def test_tiers(tmp_path: Path) -> None:
    good = _levels(check_tiers([TierRequest("/dev/shm", MIB), TierRequest(str(tmp_path), MIB)]))
    assert FAIL not in good.values()
    huge = list(check_tiers([TierRequest(str(tmp_path), 1 << 60)]))
    assert any(finding.level == FAIL and "larger than its file system" in finding.message for finding in huge)
    missing = list(check_tiers([TierRequest("/proc/1", GIB)]))
    assert any(finding.check == "tier /proc/1" and finding.level == FAIL for finding in missing)


def test_a_tier_that_mount_would_refuse(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for base, message in (("no/such", "nor does its parent"), ("file", "is not a directory")):
        findings = list(check_tiers([TierRequest(str(tmp_path / base), MIB)]))
        assert [finding.level for finding in findings if message in finding.message] == [FAIL], base
    assert FAIL not in _levels(check_tiers([TierRequest(str(tmp_path / "new"), MIB)])).values()


def test_the_options_of_a_mount_can_be_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["doctor", f"file://{tmp_path}", "-o", "ttl=5", "-o", "allow_other", "--tier", "none"]
    assert commands.run(arguments) == 0
    assert "nothing is cached" in capsys.readouterr().out
    assert commands.run([*arguments, "-o", "ttl=never"]) == 2
    assert commands.run([*arguments, "--tier", f"{tmp_path}:1Gi"]) == 2
    assert commands.run([*arguments, "-o", "nosuch=1"]) == 1


def test_a_dead_mount_is_found_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(places, "run_root", lambda uid, runtime: str(tmp_path / "run"))
    with ScriptedMount(tmp_path / "run", "/nowhere/m", dead=True):
        commands.run(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)
    assert {
        "check": "mounts",
        "level": "warn",
        "message": "the supervisor of /nowhere/m died",
        "cure": "fusecache umount /nowhere/m",
    } in findings


def test_a_local_source(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 5000)
    levels = _levels(check_source(SourceSpec(f"file://{tmp_path}"), {}))
    assert levels == {"reachability": OK, "credentials": OK, "listing": OK, "ranges": OK, "versions": WARN}


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    (finding,) = check_source(SourceSpec(f"file://{tmp_path}/missing"), {})
    assert (finding.level, finding.check) == (FAIL, "source")
    assert finding.cure


def test_a_store_that_does_not_answer_is_no_dead_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_source, "STEP_SECONDS", 0.2)
    monkeypatch.setattr(doctor_source, "clock_skew", lambda url: None)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        options = {"endpoint_url": f"http://127.0.0.1:{port}", "anonymous": "true", "read_timeout": "1"}
        (finding,) = check_source(SourceSpec("s3://bucket", "", options), {})
    assert (finding.level, finding.check) == (FAIL, "reachability")
    assert finding.message == "s3://bucket did not answer within 0.2 s"
    assert "firewall" in finding.cure


def test_doctor_fails_when_something_does_not_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["doctor", f"file://{tmp_path}/missing"]) == 1
    text = capsys.readouterr().out
    assert "fail  source: " in text
    assert "      -> " in text


@pytest.fixture
def server_behind_by() -> Iterator[tuple[str, list[float]]]:
    """A server whose clock can be set; yields its URL and the seconds it is behind."""
    behind = [0.0]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(403)
            self.send_header("Date", email.utils.formatdate(time.time() - behind[0], usegmt=True))
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", behind
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_clock_is_compared_with_the_stores_even_when_it_refuses_us(server_behind_by: tuple[str, list[float]]) -> None:
    url, behind = server_behind_by
    skew = clock_skew(url)
    assert skew is not None
    assert abs(skew) < 5
    behind[0] = 1200
    skew = clock_skew(url)
    assert skew is not None
    assert 1190 < skew < 1210
    assert clock_skew("http://127.0.0.1:1/") is None


@pytest.mark.parametrize(
    ("spec", "environment", "url"),
    [
        (SourceSpec("https://h/x"), {}, "https://h/x"),
        (SourceSpec("s3://b", "", {"endpoint_url": "http://e:1"}), {"AWS_ENDPOINT_URL": "http://other"}, "http://e:1"),
        (SourceSpec("s3://b"), {"AWS_ENDPOINT_URL": "http://other"}, "http://other"),
        (SourceSpec("s3://b"), {}, "https://s3.amazonaws.com"),
        (SourceSpec("oss://b", "", {"fs.oss.endpoint": "oss.example.com"}), {}, "https://oss.example.com"),
        (SourceSpec("/data"), {}, None),
    ],
)
def test_whose_clock_is_asked(spec: SourceSpec, environment: dict[str, str], url: str | None) -> None:
    assert date_url(spec, environment) == url


def test_findings_are_the_same_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    status = commands.run(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)
    assert {frozenset(finding) for finding in findings} == {frozenset(("check", "level", "message", "cure"))}
    assert {finding["level"] for finding in findings} <= {OK, WARN, FAIL}
    assert status == (1 if any(finding["level"] == FAIL for finding in findings) else 0)
    assert os.uname().release in json.dumps(findings)
