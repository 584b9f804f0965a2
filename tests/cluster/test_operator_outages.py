"""The operator while the API server is away or answers badly: it goes on afterwards, and misses nothing."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_operator import IMAGE, gone, web
from tests.support.api_proxy import Answer, ApiProxy, Call
from tests.support.definitions import apply_definitions
from tests.support.kubectl import Kubectl
from tests.support.mounted import wait_until
from tests.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]

SHORT_SECONDS = 2.0  # an operator that cannot renew its Lease for 10 s ends, and learns everything anew when it starts
EXPIRED = {
    "type": "ERROR",
    "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410},
}


@pytest.fixture
def proxy(kubeconfig: Path, tmp_path: Path) -> Iterator[ApiProxy]:
    with ApiProxy(kubeconfig, tmp_path) as proxy:
        yield proxy


@pytest.fixture
def operator(proxy: ApiProxy, kubeconfig: Path, namespace: Kubectl, tmp_path: Path) -> Iterator[OperatorProcess]:
    apply_definitions(Kubectl(kubeconfig))
    with OperatorProcess(proxy.write_kubeconfig(), namespace.namespace, tmp_path / "operator.log", image=IMAGE) as operator:
        namespace.create(web())
        namespace.wait_for(["alluxioruntime", "spark"], lambda found: bool(found.get("status", {}).get("masterPhase")), 30.0)
        yield operator
        namespace("delete", "datasets", "--all", "--wait=true", timeout_seconds=60)


class Forgetful:
    """An API server that was started anew: it knows no version of before, and says so to each watch that goes on from one."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, call: Call) -> Answer | None:
        if not call.is_watch or call.path in self._told:
            return None
        self._told.add(call.path)
        return Answer(200, json.dumps(EXPIRED).encode() + b"\n")


@pytest.mark.parametrize("kind", ["alluxioruntime", "dataset"])
def test_what_is_deleted_while_the_api_server_is_away(
    operator: OperatorProcess, proxy: ApiProxy, namespace: Kubectl, kind: str
) -> None:
    """Its watches go on with a list, which does not name what is gone."""
    proxy.refuse()
    if kind == "dataset":  # the finalizer holds it until the operator comes, who has to hear of that and puts it there again
        namespace("patch", "dataset", "spark", "--type=merge", '--patch={"metadata":{"finalizers":null}}')
    namespace("delete", kind, "spark", "--wait=true", timeout_seconds=30)
    time.sleep(SHORT_SECONDS)
    proxy.before = Forgetful()
    proxy.accept()
    assert wait_until(lambda: gone(namespace, "daemonset", "spark-fuse"), 60.0)
    assert wait_until(lambda: gone(namespace, "pv", f"{namespace.namespace}-spark"), 60.0)
    assert operator.process is not None
    assert operator.process.poll() is None, "this is about one that goes on"


@pytest.mark.parametrize(
    "answer",
    [
        Answer.refusal(429, "TooManyRequests", ("Retry-After", "1")),
        Answer.refusal(503, "ServiceUnavailable"),
        Answer(502, b"<html>Bad Gateway</html>", "text/html"),
    ],
    ids=lambda answer: answer.status,
)
def test_bad_answers_for_a_while(operator: OperatorProcess, proxy: ApiProxy, namespace: Kubectl, answer: Answer) -> None:
    proxy.before = lambda call: answer
    proxy.cut()
    namespace.create(web("second"))
    time.sleep(SHORT_SECONDS)
    proxy.before = lambda call: None
    assert wait_until(lambda: not gone(namespace, "daemonset", "second-fuse"), 40.0)
    assert operator.process is not None
    assert operator.process.poll() is None


def test_an_operator_that_may_not_write_any_more_ends_with_a_line(operator: OperatorProcess, proxy: ApiProxy) -> None:
    """Somebody else has its Lease by then. It ended with a traceback: its Lease could not be given back, either."""
    proxy.refuse()
    assert operator.process is not None
    assert operator.process.wait(timeout=40) == 1
    said = "fusecache-csi operator: the Lease could not be renewed in time: the API server does not answer"
    assert said in operator.log().splitlines()[-3:]  # kopf may add that it left a connection open
    proxy.accept()
    operator.start()  # its Datasets are to be deleted


def answer_late_about_the_lease(call: Call) -> None:
    """Nobody says soon that it is lost."""
    if "/leases" in call.path:
        time.sleep(SHORT_SECONDS)


def test_an_operator_that_was_stopped_leaves_everything_to_the_next_one(
    operator: OperatorProcess, proxy: ApiProxy, kubeconfig: Path, namespace: Kubectl, tmp_path: Path
) -> None:
    """As its machine was suspended. It goes on where it was, with what its watches have for it and with timers that are due."""
    assert operator.process is not None
    operator.process.send_signal(signal.SIGSTOP)
    with OperatorProcess(kubeconfig, namespace.namespace, tmp_path / "next.log", image=IMAGE):
        namespace.create(web("second"))
        assert wait_until(lambda: not gone(namespace, "daemonset", "second-fuse"), 40.0)
        proxy.before = answer_late_about_the_lease
        resumed = time.monotonic()
        operator.process.send_signal(signal.SIGCONT)
        try:
            assert operator.process.wait(timeout=40) == 1
            written = [call for call in proxy.calls(resumed) if call.is_write and "/leases" not in call.path]
            assert not written, [str(call) for call in written]
        finally:  # after this nobody takes their finalizers away
            namespace("delete", "datasets", "--all", "--wait=true", timeout_seconds=60)
