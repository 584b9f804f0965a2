"""The order of a run: in each round every session is given to one contender after the other, each beginning with another one.

On a machine whose speed wanders from minute to minute this gives everybody the same weather. Who is measured once has the first
round only. Owns the list of failures.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tests.bench.contenders.contender import Contender, ContenderError, UnavailableError
from tests.bench.readers import ReadFailedError
from tests.bench.sessions import SESSIONS, SessionRunner

log = logging.getLogger(__name__)


def prepare(contenders: Sequence[Contender], absent: dict[str, str], failures: list[str]) -> list[Contender]:
    """Prepare everybody; return those who take part, with the reasons of the others in `absent` and `failures`."""
    present = []
    for contender in contenders:
        log.info("preparing %s", contender.name)
        try:
            contender.prepare()
            present.append(contender)
        except UnavailableError as error:
            absent[contender.name] = str(error)
            log.warning("without %s: %s", contender.name, error)
        except (ContenderError, OSError) as error:
            failures.append(f"{contender.name}: {error}")
            log.error("%s could not be prepared: %s", contender.name, error)
    return present


def run_rounds(contenders: Sequence[Contender], runner: SessionRunner, rounds: int, failures: list[str]) -> None:
    """Run everything; whoever fails in a session loses that session's figures of that round and goes on with the next."""
    for number in range(rounds):
        for position, session in enumerate(SESSIONS):
            for contender in rotated(contenders, number + position):
                if contender.once and number > 0:
                    continue
                try:
                    runner.run(session, contender, number, verify=number == 0)
                except (ReadFailedError, ContenderError, OSError) as error:
                    failures.append(f"{contender.name}, {session.name}, round {number + 1}: {error}")
                    log.error("%s failed in %s: %s", contender.name, session.name, error)


def rotated(contenders: Sequence[Contender], by: int) -> list[Contender]:
    first = by % len(contenders) if contenders else 0
    return [*contenders[first:], *contenders[:first]]
