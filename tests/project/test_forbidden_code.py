"""What the code must never contain: a shell between us and a program, or a parser that runs what it reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEARCHED = ("fusecache", "csi", "deploy", "bench", "tests")
SUFFIXES = {".py", ".yaml", ".yml", ".tpl"}
FORBIDDEN = {
    "a shell": re.compile(
        r"shell\s*=\s*True|os\.system|os\.popen|getoutput\(|create_subprocess_shell|\b(ba|da)?sh['\"]?,?\s*['\"]?-c\b"
    ),
    "yaml.load": re.compile(r"yaml\.(unsafe_|full_)?load(_all)?\((?!.*SafeLoader)"),
    "pickle": re.compile(r"\bimport (pickle|marshal|shelve|dill)\b|\bfrom (pickle|marshal|shelve|dill)\b|\bpickle\.loads?\("),
    "eval": re.compile(r"(?<![\w.])(eval|exec)\("),
}


def searched_files() -> list[Path]:
    files = [path for top in SEARCHED for path in (ROOT / top).rglob("*") if path.suffix in SUFFIXES and path.is_file()]
    return [path for path in files if path != Path(__file__)]


def test_there_is_code_to_search() -> None:
    assert ROOT / "fusecache/contract/errors.py" in searched_files()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_code_is_free_of(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in searched_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a shell", "subprocess.run(command, shell=True)"),
        ("a shell", 'os.system("ls")'),
        ("a shell", 'subprocess.run(["sh", "-c", text])'),
        ("a shell", "command: [bash, -c, start]"),
        ("a shell", "exec /bin/sh -c 'true'"),
        ("yaml.load", "yaml.load(text)"),
        ("pickle", "import pickle"),
        ("eval", "x = eval(text)"),
    ],
)
def test_patterns_find_what_they_are_for(what: str, line: str) -> None:
    assert FORBIDDEN[what].search(line)


@pytest.mark.parametrize(
    "line",
    [
        "yaml.safe_load(text)",
        "yaml.load(text, Loader=yaml.CSafeLoader)",
        "os.execve(path, argv, environ)",
        "re.compile(x).search(y)",
        "model.eval()",
    ],
)
def test_patterns_leave_the_rest_alone(line: str) -> None:
    assert not any(pattern.search(line) for pattern in FORBIDDEN.values())
