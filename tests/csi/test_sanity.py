"""csi-sanity, the compliance test of the CSI project, against the standalone driver with real daemons and a real store."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.csi_driver import CsiDriver

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs" / "csi.md"


@pytest.fixture(scope="module")
def sanity() -> str:
    command = [ROOT / "scripts" / "cluster" / "build.sh", "csi-sanity"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr[-2000:]
    return str(Path(done.stdout.strip().partition(" ")[2]) / "csi-sanity")


@pytest.mark.timeout(600)
def test_every_test_of_what_is_claimed_passes_in_any_order(
    sanity: str,
    driver: CsiDriver,
    parameters: dict[str, str],
    full_length: bool,
    promise: Callable[[str, str, str, str], None],
) -> None:
    counted: list[str] = []
    files = {}
    for name, value in (("parameters", parameters), ("mutable", {"ttl": "30s"})):
        files[name] = driver.base / f"{name}.yaml"
        files[name].write_text(yaml.safe_dump(value))
    for attempt in range(2 if full_length else 1):  # what one run leaves, the next one would find
        report = driver.base / f"report-{attempt}.json"
        command = [
            sanity,
            f"--csi.endpoint={driver.base}/csi.sock",
            f"--csi.mountdir={driver.pods}/sanity-mount",
            f"--csi.stagingdir={driver.pods}/sanity-staging",
            f"--csi.testvolumeparameters={files['parameters']}",
            f"--csi.testvolumemutableparameters={files['mutable']}",
            f"--ginkgo.json-report={report}",
            "--ginkgo.randomize-all",
            "--ginkgo.no-color",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=driver.base)
        states: dict[str, list[str]] = {}
        reasons: set[str] = set()
        for suite in json.loads(report.read_text()):
            for spec in suite["SpecReports"] or []:
                text = " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]]).strip()
                states.setdefault(spec["State"], []).append(text)
                if spec["State"] == "skipped":
                    reasons.add(spec["Failure"]["Message"])
        print({state: len(names) for state, names in states.items()})
        assert done.returncode == 0, (states.get("failed"), done.stdout[-6000:], driver.log()[-3000:])
        assert not states.get("failed")
        assert len(states["passed"]) >= 69
        assert not {reason for reason in reasons if reason not in DOCUMENT.read_text()}, "docs/csi.md lists every skip"
        assert driver.leftovers() == []
        counted.append(
            f"{len(states['passed'])} passed, 0 failed, {len(states.get('skipped', []))} skipped (docs/csi.md says why)"
        )
    promise("18s", "csi-sanity, twice in random order, real daemons and mounts, a real S3 server", "; ".join(counted), "0 failed")
