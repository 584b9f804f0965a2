"""Kills the operator at a chosen write, and starts it again. Owns nothing: the process and the proxy are the test's."""

from __future__ import annotations

import threading

from tests.support.api_proxy import Answer, ApiProxy, Call
from tests.support.http_wire import Disconnected
from tests.support.kubectl import Kubectl
from tests.support.operator_process import OperatorProcess

LEASE = "fusecache-operator"


class KillAt:
    """Ends the operator at the `number`-th change that it asks for from now on: before the API server hears of it, or, with
    `answer_is_lost`, when it is done and the operator has not heard.

    Attributes:
        victim: the call at which it was killed, None if it was not.
        count: changes until then.
    """

    def __init__(self, operator: OperatorProcess, proxy: ApiProxy, number: int, *, answer_is_lost: bool) -> None:
        self._operator = operator
        self._proxy = proxy
        self._number = number
        self._answer_is_lost = answer_is_lost
        self._lock = threading.Lock()
        self._marked: Call | None = None
        self.victim: Call | None = None
        self.count = 0
        proxy.before, proxy.after = self._before, self._after

    def disarm(self) -> None:
        self._proxy.before, self._proxy.after = lambda call: None, lambda call: None

    def revive(self, kubectl: Kubectl) -> None:
        """Start the operator again if it was killed. Its Lease is taken away, as time would do it."""
        with self._lock:
            if self.victim is None or self._operator.process is not None:
                return
        self._proxy.cut()
        kubectl("delete", "lease", LEASE, "--ignore-not-found")
        self._operator.start()

    def _before(self, call: Call) -> Answer | None:
        with self._lock:
            if not call.is_change or self.victim is not None or self._marked is not None:
                return None
            self.count += 1
            if self.count != self._number:
                return None
            self._marked = call
            if not self._answer_is_lost:
                self._kill(call)
        return None

    def _after(self, call: Call) -> None:
        if call is self._marked:
            with self._lock:
                self._kill(call)

    def _kill(self, call: Call) -> None:
        self._operator.kill()
        self.victim = call
        raise Disconnected
