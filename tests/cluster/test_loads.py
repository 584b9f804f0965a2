"""DataLoads against a real API server and Job controller: what becomes of them, and what is said. No cache pod runs here."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.test_operator import IMAGE, gone, reasons, web
from tests.support.definitions import apply_definitions
from tests.support.kubectl import Kubectl, KubectlError, find_kubectl
from tests.support.mounted import wait_until
from tests.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]

DATASET = "spark"
SOON_SECONDS = 30.0


@pytest.fixture(scope="module")
def operator(kubeconfig: Path, module_namespace: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    apply_definitions(Kubectl(kubeconfig))
    log = tmp_path_factory.mktemp("operator") / "log"
    with OperatorProcess(kubeconfig, module_namespace.namespace, log, image=IMAGE) as operator:
        yield operator
        if operator.process is None:
            operator.start()
        for kind in ("dataloads", "datasets", "datamigrates", "databackups", "dataprocesses"):
            module_namespace("delete", kind, "--all", "--wait=true", timeout_seconds=60)


@pytest.fixture(scope="module")
def namespace(operator: OperatorProcess, module_namespace: Kubectl) -> Kubectl:
    """With a Dataset that is bound, as the test says: nobody serves it."""
    module_namespace.create(web(DATASET))
    bind(module_namespace, DATASET)
    return module_namespace


def bind(kubectl: Kubectl, name: str) -> None:
    """Do what its cache pods would. The operator's first look writes the status more than once: ours may be lost."""
    kubectl.wait_for(["dataset", name], lambda found: bool(found.get("status", {}).get("phase")))
    status = {"status": {"phase": "Bound"}}

    def stays_bound() -> bool:
        kubectl("patch", "dataset", name, "--subresource=status", "--type=merge", f"--patch={json.dumps(status)}")
        time.sleep(1.0)
        return bool(kubectl.get("dataset", name)["status"]["phase"] == "Bound")

    assert wait_until(stays_bound, SOON_SECONDS), f"the operator goes on writing the status of Dataset {name}"


def data_load(name: str, dataset: str = DATASET, **spec: Any) -> dict[str, Any]:
    return operation("DataLoad", name, dataset={"name": dataset}, **spec)


def operation(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "data.fluid.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def wait_phase(kubectl: Kubectl, name: str, *phases: str, kind: str = "dataload") -> dict[str, Any]:
    """Return the object once it is in one of these phases."""
    return kubectl.wait_for([kind, name], lambda found: found.get("status", {}).get("phase") in phases, SOON_SECONDS)


def end_job(kubectl: Kubectl, name: str, *, is_complete: bool = True, seconds: int = 121) -> None:
    """Do what the Job controller does when a pod has ended: the pods of these tests have no image."""
    job = kubectl.wait_for(["job", name], lambda found: bool(found.get("status", {}).get("startTime")))
    start = job["status"]["startTime"]
    end = (datetime.datetime.fromisoformat(start) + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    kinds = ("SuccessCriteriaMet", "Complete") if is_complete else ("FailureTarget", "Failed")
    conditions = [
        {"type": kind, "status": "True", "reason": "Tested", "message": "as the test says", "lastTransitionTime": end}
        for kind in kinds
    ]
    status: dict[str, Any] = {"startTime": start, "conditions": conditions, "active": 0, "ready": 0, "terminating": 0}
    status |= {"completionTime": end, "succeeded": 1} if is_complete else {"failed": 1}
    patch = json.dumps({"status": status})
    assert wait_until(lambda: _patches(kubectl, name, patch), SOON_SECONDS), kubectl.get("job", name)


def _patches(kubectl: Kubectl, name: str, patch: str) -> bool:
    """The Job controller may write at the same time."""
    try:
        kubectl("patch", "job", name, "--subresource=status", "--type=merge", f"--patch={patch}")
    except KubectlError:
        return False
    return True


def test_from_a_load_to_its_job_and_to_its_end(namespace: Kubectl) -> None:
    namespace.create([data_load("one", target=[{"path": "/spark-3.3.1"}], options={"odd": "1"})])
    load = wait_phase(namespace, "one", "Executing")
    assert (load["status"]["duration"], load["status"]["conditions"]) == ("Unfinished", [])
    assert load["metadata"]["finalizers"] == ["fusecache.io/dataload"]
    assert load["metadata"]["ownerReferences"][0]["kind"] == "Dataset"
    job = namespace.get("job", "one-loader-job")
    assert job["metadata"]["ownerReferences"][0]["uid"] == load["metadata"]["uid"]
    (environment,) = job["spec"]["template"]["spec"]["containers"][0]["env"]
    plan = json.loads(environment["value"])
    assert plan["service"] == f"spark-fuse.{namespace.namespace}.svc"
    assert plan["targets"] == [{"path": "spark-3.3.1", "is_pattern": False}]
    dataset = namespace.wait_for(["dataset", DATASET], lambda found: bool(found["status"].get("operationRef")), SOON_SECONDS)
    assert dataset["status"]["operationRef"] == {"DataLoad": "one"}
    end_job(namespace, "one-loader-job")
    load = wait_phase(namespace, "one", "Complete")
    (condition,) = load["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Complete", "True", "DataLoadJobComplete")
    printed = [line.split() for line in namespace("get", "dataload", "one").splitlines()]
    assert printed[0] == ["NAME", "DATASET", "PHASE", "AGE", "DURATION"]
    assert (printed[1][:3], printed[1][4]) == (["one", "spark", "Complete"], "2m1s")
    assert wait_until(lambda: "operationRef" not in namespace.get("dataset", DATASET)["status"], SOON_SECONDS)
    said = reasons(namespace, "one")
    assert {"DataLoadJobStarted", "DataLoadJobComplete", "DataOperationSucceed", "OptionIgnored"} <= said.keys(), said
    change = json.dumps({"spec": {"target": [{"path": "/other"}]}})
    namespace("patch", "dataload", "one", "--type=merge", f"--patch={change}")
    assert wait_until(lambda: "create another DataLoad" in reasons(namespace, "one").get("FieldIgnored", ""), SOON_SECONDS)
    assert namespace.get("dataload", "one")["status"]["phase"] == "Complete"
    namespace("delete", "dataload", "one", "--wait=true")
    assert wait_until(lambda: gone(namespace, "job", "one-loader-job"), SOON_SECONDS)
    assert wait_until(lambda: namespace.items("pods", "--selector=job-name=one-loader-job") == [], 60.0)


def test_a_load_that_fails_and_one_that_takes_too_long(namespace: Kubectl) -> None:
    namespace.create([data_load("bad"), data_load("slow", options={"timeout": "2s"})])
    wait_phase(namespace, "bad", "Executing")
    end_job(namespace, "bad-loader-job", is_complete=False, seconds=34)
    load = wait_phase(namespace, "bad", "Failed")
    assert (load["status"]["duration"], load["status"]["conditions"][0]["reason"]) == ("34s", "DataLoadJobFailed")
    assert load["status"]["conditions"][0]["message"] == "as the test says"
    assert "DataOperationFailed" in reasons(namespace, "bad")
    load = wait_phase(namespace, "slow", "Failed")
    assert "raise options.timeout" in load["status"]["conditions"][0]["message"]


def test_a_load_whose_job_somebody_deletes(namespace: Kubectl) -> None:
    namespace.create([data_load("robbed")])
    wait_phase(namespace, "robbed", "Executing")
    namespace("delete", "job", "robbed-loader-job", "--wait=true")
    load = wait_phase(namespace, "robbed", "Failed")
    assert "somebody deleted it" in load["status"]["conditions"][0]["message"]


@pytest.mark.parametrize(
    ("name", "spec", "reason", "words"),
    [
        ("far", {"dataset": {"name": DATASET, "namespace": "default"}}, "TargetDatasetNamespaceNotSame", "own namespace"),
        ("up", {"target": [{"path": "/a/../b"}]}, "DataOperationNotValid", "spec.target[0].path"),
        ("never", {"policy": "Cron"}, "ScheduleNotSpecified", "five fields"),
        ("odd", {"policy": "Cron", "schedule": "60 * * * *"}, "ScheduleInvalid", "five fields"),
    ],
)
def test_what_is_refused(namespace: Kubectl, name: str, spec: dict[str, Any], reason: str, words: str) -> None:
    load = data_load(name)
    load["spec"] |= spec
    namespace.create([load])
    found = wait_phase(namespace, name, "Failed")
    assert found["status"]["conditions"][0]["reason"] == reason
    assert words in found["status"]["conditions"][0]["message"]
    assert words in reasons(namespace, name)[reason]
    assert gone(namespace, "job", f"{name}-loader-job")


def test_kinds_that_are_not_carried_out_say_so(namespace: Kubectl) -> None:
    end = {"dataset": {"name": DATASET, "namespace": namespace.namespace}}
    script = {"script": {"source": "true", "image": "a"}}
    objects = [
        operation("DataMigrate", "m", **{"from": {"externalStorage": {"uri": "s3://b"}}, "to": end}),
        operation("DataBackup", "b", dataset=DATASET, backupPath="pvc://c/d"),
        operation("DataProcess", "p", dataset={"name": DATASET, "mountPath": "/data"}, processor=script),
    ]
    objects[1]["metadata"]["finalizers"] = ["fluid-databackup-controller-finalizer"]
    namespace.create(objects)
    for one in objects:
        kind, name = one["kind"].lower(), one["metadata"]["name"]
        found = wait_phase(namespace, name, "Failed", kind=kind)
        assert found["status"]["conditions"][0]["reason"] == "DataOperationNotSupport"
        assert "is not carried out by this version" in reasons(namespace, name)["DataOperationNotSupport"]
        namespace("delete", kind, name, "--wait=true", timeout_seconds=20)


def test_a_load_waits_for_its_dataset(namespace: Kubectl) -> None:
    namespace.create([data_load("early", "later")])
    assert wait_until(lambda: "TargetDatasetNotFound" in reasons(namespace, "early"), SOON_SECONDS)
    assert "phase" not in namespace.get("dataload", "early").get("status", {})
    dataset, runtime = web("later")
    namespace.create([dataset])
    assert wait_until(lambda: "RuntimeNotReady" in reasons(namespace, "early"), SOON_SECONDS)
    namespace.create([runtime])
    assert wait_phase(namespace, "early", "Pending")["status"]["duration"] == "Unfinished"
    assert gone(namespace, "job", "early-loader-job")
    bind(namespace, "later")
    wait_phase(namespace, "early", "Executing")
    namespace("delete", "dataset", "later", "--wait=true", timeout_seconds=60)
    assert wait_until(lambda: gone(namespace, "dataload", "early"), 60.0), "it goes with its Dataset"


def test_a_load_waits_for_workers(namespace: Kubectl) -> None:
    dataset, runtime = web("bare")
    runtime["spec"]["replicas"] = 0
    namespace.create([dataset, runtime])
    bind(namespace, "bare")
    namespace.wait_for(
        ["alluxioruntime", "bare"], lambda found: found.get("status", {}).get("desiredWorkerNumberScheduled") == 0, SOON_SECONDS
    )
    namespace.create([data_load("patient", "bare")])
    assert wait_until(lambda: "has no workers" in reasons(namespace, "patient").get("RuntimeNotReady", ""), SOON_SECONDS)
    wait_phase(namespace, "patient", "Pending")
    namespace("scale", "alluxioruntime", "bare", "--replicas=1")
    namespace.wait_for(["dataload", "patient"], lambda found: found["status"]["phase"] == "Executing", 60.0)


def test_one_after_the_other(namespace: Kubectl) -> None:
    after = {"kind": "DataLoad", "name": "first"}
    namespace.create([data_load("second", runAfter=after)])
    assert wait_until(lambda: "DataOperationNotFound" in reasons(namespace, "second"), SOON_SECONDS)
    namespace.create([data_load("first")])
    wait_phase(namespace, "first", "Executing")
    second = namespace.wait_for(["dataload", "second"], lambda found: found.get("status", {}).get("phase") == "Pending")
    assert second["status"]["waitingFor"]["operationComplete"] is True
    assert wait_until(lambda: "DataOperationWaiting" in reasons(namespace, "second"), SOON_SECONDS)
    assert gone(namespace, "job", "second-loader-job")
    end_job(namespace, "first-loader-job")
    second = wait_phase(namespace, "second", "Executing")
    assert second["status"]["waitingFor"]["operationComplete"] is False


def test_a_circle_is_refused(namespace: Kubectl) -> None:
    namespace.create([data_load(name, runAfter={"kind": "DataLoad", "name": other}) for name, other in ("ab", "ba")])
    for name in "ab":
        found = wait_phase(namespace, name, "Failed")
        assert "in a circle" in found["status"]["conditions"][0]["message"]


def test_a_circle_of_loads_that_wait_for_events_stays_refused(namespace: Kubectl) -> None:
    """Failed was followed by Pending, and Pending by Failed, as fast as the API server answered."""
    names = ("event-a", "event-b")
    for name, other in (names, names[::-1]):
        namespace.create([data_load(name, policy="OnEvent", runAfter={"kind": "DataLoad", "name": other})])
    for name in names:
        wait_phase(namespace, name, "Failed")
    time.sleep(2)
    before = [namespace.get("dataload", name)["metadata"]["resourceVersion"] for name in names]
    time.sleep(5)
    assert [namespace.get("dataload", name)["metadata"]["resourceVersion"] for name in names] == before


def test_a_load_that_is_no_longer_repeated(namespace: Kubectl) -> None:
    """Its CronJob went on by its schedule."""
    namespace.create([data_load("weekly", policy="Cron", schedule="@yearly")])
    namespace.wait_for(["cronjob", "weekly-loader-job"], lambda found: True, SOON_SECONDS)
    namespace("patch", "dataload", "weekly", "--type=merge", '--patch={"spec": {"policy": "Once", "schedule": null}}')
    assert wait_until(lambda: gone(namespace, "cronjob", "weekly-loader-job"), SOON_SECONDS)
    wait_phase(namespace, "weekly", "Executing")
    end_job(namespace, "weekly-loader-job")
    wait_phase(namespace, "weekly", "Complete")


def test_a_load_goes_after_its_time(namespace: Kubectl) -> None:
    namespace.create([data_load("brief", ttlSecondsAfterFinished=2)])
    wait_phase(namespace, "brief", "Executing")
    end_job(namespace, "brief-loader-job")
    wait_phase(namespace, "brief", "Complete")
    assert wait_until(lambda: gone(namespace, "dataload", "brief"), SOON_SECONDS)
    assert wait_until(lambda: gone(namespace, "job", "brief-loader-job"), SOON_SECONDS)


def test_a_load_again_and_again(namespace: Kubectl, tmp_path: Path) -> None:
    """The Jobs are made by hand, as waiting for a schedule takes minutes."""
    namespace.create([data_load("daily", policy="Cron", schedule="@yearly")])
    cron = namespace.wait_for(["cronjob", "daily-loader-job"], lambda found: True, SOON_SECONDS)
    assert (cron["spec"]["schedule"], cron["spec"]["concurrencyPolicy"]) == ("0 0 1 1 *", "Forbid")
    wait_phase(namespace, "daily", "Pending")
    with watched(namespace, "daily", tmp_path / "seen") as seen:
        for number, is_complete in enumerate((True, False, True)):
            job = f"daily-{number}"
            namespace("create", "job", job, "--from=cronjob/daily-loader-job")
            assert wait_phase(namespace, "daily", "Executing")["status"]["duration"] == "Unfinished"
            end_job(namespace, job, is_complete=is_complete)
            load = wait_phase(namespace, "daily", "Complete" if is_complete else "Failed")
            assert load["status"]["duration"] == "2m1s"
            assert load["status"]["lastScheduleTime"]
            assert load["status"]["lastSuccessfulTime"]
        assert wait_until(lambda: seen.read_text().endswith("Complete 2m1s\n"), SOON_SECONDS)
        again = ["Pending -", "Executing Unfinished"]
        steps = ["Pending Unfinished", "Executing Unfinished", "Complete 2m1s", *again, "Failed 2m1s", *again, "Complete 2m1s"]
        assert [key for key, _ in itertools.groupby(seen.read_text().splitlines())] == steps
    namespace("patch", "dataload", "daily", "--type=merge", '--patch={"spec": {"schedule": "0 2 * * *"}}')
    namespace.wait_for(["cronjob", "daily-loader-job"], lambda found: found["spec"]["schedule"] == "0 2 * * *", SOON_SECONDS)
    namespace("delete", "dataload", "daily", "--wait=true")
    assert wait_until(lambda: gone(namespace, "cronjob", "daily-loader-job"), SOON_SECONDS)


@contextlib.contextmanager
def watched(kubectl: Kubectl, name: str, path: Path) -> Iterator[Path]:
    """Write phase and duration of a DataLoad to a file, a line for each change."""
    program = find_kubectl()
    assert program is not None
    command = [
        program,
        f"--kubeconfig={kubectl.kubeconfig}",
        f"--namespace={kubectl.namespace}",
        "get",
        "dataload",
        name,
        "--watch",
    ]
    command.append(r"--output=jsonpath={.status.phase} {.status.duration}{'\n'}")
    with path.open("wb") as file:
        process = subprocess.Popen(command, stdout=file)
    try:
        assert wait_until(lambda: path.read_text() != "", SOON_SECONDS)
        yield path
    finally:
        process.kill()
        process.wait(10)


def test_a_load_whenever_something_happens(namespace: Kubectl) -> None:
    namespace.create([data_load("alert", policy="OnEvent")])
    first = wait_phase(namespace, "alert", "Executing")
    end_job(namespace, "alert-loader-job")
    wait_phase(namespace, "alert", "Complete")
    job = namespace.get("job", "alert-loader-job")["metadata"]["uid"]
    namespace("annotate", "dataload", "alert", "data.fluid.io/trigger=1")
    again = wait_phase(namespace, "alert", "Executing")
    assert again["status"]["infos"]["Event"] != first["status"]["infos"]["Event"]
    assert namespace.get("job", "alert-loader-job")["metadata"]["uid"] != job
    end_job(namespace, "alert-loader-job")
    wait_phase(namespace, "alert", "Complete")


def test_the_operator_dies_and_another_one_goes_on(operator: OperatorProcess, namespace: Kubectl) -> None:
    namespace.create([data_load("long")])
    wait_phase(namespace, "long", "Executing")
    assert operator.process is not None
    operator.process.kill()
    operator.process.wait(10)
    end_job(namespace, "long-loader-job")
    namespace.create([data_load("meanwhile")])
    operator.start()
    assert wait_phase(namespace, "long", "Complete")["status"]["duration"] == "2m1s"
    wait_phase(namespace, "meanwhile", "Executing")
    operator.stop()  # what a test starts it ends
