"""Options of a cache pod."""

from __future__ import annotations

import pytest

from fusecache.pod.arguments import PORT, Arguments, parse


def test_defaults_are_the_places_in_a_pod() -> None:
    assert parse([]) == Arguments()
    assert parse(["--port", "0", "--cache", "/x"]) == Arguments(cache="/x", port=0)
    assert Arguments().port == PORT


def test_the_node_is_named_by_the_environment() -> None:
    assert parse([], {"NODE_NAME": "node-1", "OTHER": "x"}) == Arguments(node="node-1")
    assert parse(["--node", "node-2"], {"NODE_NAME": "node-1"}) == Arguments(node="node-2")
    assert parse([], {"NODE_NAME": ""}) == Arguments()


@pytest.mark.parametrize("given", [["--what", "x"], ["cache", "x"], ["--cache"], ["--port", "x"], ["--port", "70000"]])
def test_others_are_refused(given: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(given)
    assert ended.value.code == 2
    assert "--" in capfd.readouterr().err
