"""Programs of the shell on mounts that may be written: dd, truncate, install, split, sed and their like."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from tests.support.mounted import CommandFailedError
from tests.support.plain_store import tree_of
from tests.support.programs import find_program
from tests.support.written_place import WrittenPlace, sha256

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


def write(path: Path, size: int) -> bytes:
    """Make a file that is not on the mount, return its bytes."""
    data = random.Random(size).randbytes(size)
    path.write_bytes(data)
    return data


def test_dd_writes_and_syncs(place: WrittenPlace, disk_path: Path) -> None:
    data = write(disk_path / "data", 5_000_001)
    place.run("dd", f"if={disk_path / 'data'}", "of=synced", "bs=64k", "conv=fsync", "status=none")
    place.run("dd", f"if={disk_path / 'data'}", "of=by-write", "bs=1M", "oflag=dsync", "status=none")
    place.run(
        "dd", f"if={disk_path / 'data'}", "of=by-append", "bs=300k", "oflag=append", "conv=notrunc,fdatasync", "status=none"
    )
    assert place.stored() == dict.fromkeys(("synced", "by-write", "by-append"), sha256(data))


def test_dd_writes_directly(place: WrittenPlace, disk_path: Path) -> None:
    """O_DIRECT, as databases and benchmarks open files."""
    data = write(disk_path / "data", 1 << 20)
    place.run("dd", f"if={disk_path / 'data'}", "of=direct", "bs=128k", "oflag=direct", "status=none")
    place.run("dd", "if=direct", f"of={disk_path / 'back'}", "bs=128k", "iflag=direct", "status=none")
    assert place.stored() == {"direct": sha256(data)}
    assert (disk_path / "back").read_bytes() == data


def test_dd_writes_into_the_middle(place: WrittenPlace, disk_path: Path) -> None:
    data = bytearray(write(disk_path / "data", 300_000))
    piece = write(disk_path / "piece", 7000)
    place.run("cp", f"{disk_path / 'data'}", "file")
    place.run("dd", f"if={disk_path / 'piece'}", "of=file", "bs=1000", "seek=123", "conv=notrunc", "status=none")
    data[123_000:130_000] = piece
    assert place.read("file") == data
    place.run("dd", f"if={disk_path / 'piece'}", "of=file", "bs=1000", "seek=500", "conv=notrunc", "status=none")
    assert place.read("file") == data + bytes(200_000) + piece
    place.run("dd", "if=/dev/null", "of=file", "bs=1000", "seek=100", "status=none")
    assert place.read("file") == data[:100_000]
    place.assert_stored()


def test_redirections_append(place: WrittenPlace) -> None:
    place.shell(
        """
        echo one > log
        for word in two three four; do echo $word >> log; done
        { echo five; cat /dev/null; echo six; } >> log
        : > emptied; echo x >> emptied; : > emptied
        """
    )
    assert place.read("log") == b"one\ntwo\nthree\nfour\nfive\nsix\n"
    assert place.read("emptied") == b""
    place.assert_stored()


def test_two_programs_append_to_one_file(place: WrittenPlace) -> None:
    """Appends of one machine do not overwrite each other."""
    place.shell(
        """
        for writer in a b c; do
            (for number in $(seq 100); do echo $writer-$number; done >> log) &
        done
        wait
        """
    )
    lines = place.read("log").decode().splitlines()
    assert sorted(lines) == sorted(f"{writer}-{number}" for writer in "abc" for number in range(1, 101))
    for writer in "abc":
        assert [line for line in lines if line.startswith(writer)] == [f"{writer}-{number}" for number in range(1, 101)]


def test_truncate_makes_files_of_any_length(place: WrittenPlace) -> None:
    place.shell("printf 0123456789 > file; truncate -s 4 file; truncate -s +3 file; truncate -s 3M hole; truncate -s 0 empty")
    assert place.read("file") == b"0123\0\0\0"
    assert place.read("hole") == bytes(3 << 20)
    assert place.read("empty") == b""
    assert place.run("stat", "-c", "%s", "file", "hole", "empty").split() == ["7", str(3 << 20), "0"]
    place.assert_stored()


def test_install_sets_modes(place: WrittenPlace, disk_path: Path) -> None:
    data = write(disk_path / "program", 70_000)
    place.run("install", "-m", "0750", "-D", f"{disk_path / 'program'}", "bin/deep/program")
    place.run("install", "-m", "0640", "-p", f"{disk_path / 'program'}", "kept")
    place.run("install", "-m", "0755", "-d", "share/empty")
    assert place.run("stat", "-c", "%a", "bin/deep/program", "kept").split() == ["750", "640"]
    assert place.run("stat", "-c", "%Y", "kept").strip() == str(int((disk_path / "program").stat().st_mtime))
    assert place.stored() == {
        "bin": "directory", "bin/deep": "directory", "bin/deep/program": sha256(data),
        "kept": sha256(data), "share": "directory", "share/empty": "directory",
    }  # fmt: skip


def test_an_installed_program_runs(place: WrittenPlace) -> None:
    place.shell(f"""cp {find_program("env")} program; printf '#!/bin/sh\\necho ran\\n' > script; chmod 755 script""")
    assert place.run("./program", "-i", "A=b") == "A=b\n"
    assert place.run("./script") == "ran\n"


def test_symbolic_links(place: WrittenPlace) -> None:
    place.shell("mkdir dir; echo there > dir/file")
    if place.is_flat:
        with pytest.raises(CommandFailedError, match="Operation not permitted"):
            place.run("ln", "-s", "dir/file", "link")
        return
    place.shell("ln -s dir/file link; ln -s dir turn; ln -sfn dir/file link; cat link turn/file; test -h link")
    assert place.stored()["link"] == "-> dir/file"
    assert place.assert_stored()["turn"] == "-> dir"
    place.shell("mv link moved; rm turn; echo through > moved")
    assert place.stored() == {"dir": "directory", "dir/file": sha256(b"through\n"), "moved": "-> dir/file"}


def test_hard_links_are_refused(place: WrittenPlace) -> None:
    place.shell("echo x > file")
    with pytest.raises(CommandFailedError, match="Operation not permitted"):
        place.run("ln", "file", "other")
    assert place.stored() == {"file": sha256(b"x\n")}


def test_touch_sets_times(place: WrittenPlace) -> None:
    place.shell(
        """
        touch made; touch -d '2001-02-03 04:05:06.789 UTC' dated; mkdir dir; touch -d '2002-02-03 UTC' dir
        touch -r dated referred; touch -c not-there
        """
    )
    assert place.run("stat", "-c", "%.3Y", "dated", "referred").split() == ["981173106.789", "981173106.789"]
    assert place.run("stat", "-c", "%Y", "dir").strip() == "1012694400"
    assert place.stored() == {**dict.fromkeys(("made", "dated", "referred"), sha256(b"")), "dir": "directory"}
    place.shell("echo x > dated; test dated -nt referred; touch -m -d '2003-02-03 UTC' dated; test dated -nt referred")
    assert place.run("stat", "-c", "%Y", "dated").strip() == "1044230400"
    assert place.read("dated") == b"x\n"


def test_sed_changes_files_in_place(place: WrittenPlace) -> None:
    place.shell(
        """
        for number in 1 2 3; do seq 1000 > file$number; done; chmod 600 file1
        sed -i 's/9/nine/' file1 file2
        sed -i.bak '1,990d' file3
        """
    )
    numbers = "".join(f"{number}\n" for number in range(1, 1001)).encode()
    changed = b"".join(line.replace(b"9", b"nine", 1) for line in numbers.splitlines(keepends=True))
    last = b"".join(numbers.splitlines(keepends=True)[990:])
    assert place.assert_stored() == {
        "file1": sha256(changed), "file2": sha256(changed), "file3": sha256(last), "file3.bak": sha256(numbers),
    }  # fmt: skip
    assert place.run("stat", "-c", "%a", "file1").strip() == "600"


def test_split_and_cat(place: WrittenPlace, disk_path: Path) -> None:
    data = write(disk_path / "data", 3_000_000)
    place.shell(f"split -b 700k {disk_path / 'data'} part-; cat part-* > joined; tee copied < joined | tail -c 100 > end")
    assert place.read("joined") == place.read("copied") == data
    assert place.read("end") == data[-100:]
    assert b"".join(place.read(f"part-a{letter}") for letter in "abcde") == data
    place.assert_stored()


def test_cp_in_all_its_ways(place: WrittenPlace, disk_path: Path) -> None:
    data = write(disk_path / "data", 2_000_000)
    place.shell(
        f"""
        cp {disk_path / "data"} one
        cp --reflink=auto one two
        cp --sparse=always one three
        cp -p one four
        cp -b --suffix=.old two one
        cp --remove-destination two three
        cp -u one four
        cp -n two four
        cmp one four
        """
    )
    assert place.assert_stored() == dict.fromkeys(("one", "one.old", "two", "three", "four"), sha256(data))
    with pytest.raises(CommandFailedError, match=r"reflink|clone"):
        place.run("cp", "--reflink=always", "one", "cloned")
    assert "cloned" not in place.stored() or place.read("cloned") == b""


def test_a_tree_is_copied_moved_and_removed(place: WrittenPlace, disk_path: Path) -> None:
    tree = disk_path / "tree"
    for number in range(24):
        path = tree / f"dir{number % 6}" / "sub" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, number * 97)
        path.chmod(0o640 if number % 2 else 0o755)
    expected = tree_of(tree)
    place.run("cp", "-a", f"{tree}", "copied")
    assert place.stored("copied") == expected
    listing = ["find", ".", "-type", "f", "-printf", "%P %m %s %T@\\n"]
    original = subprocess.run(listing, cwd=tree, capture_output=True, check=True, text=True, timeout=60).stdout
    assert sorted(place.run("env", "-C", "copied", *listing).splitlines()) == sorted(original.splitlines())
    place.run("cp", "-a", "copied", "twice")
    assert place.stored("twice") == expected
    assert sorted(place.run("env", "-C", "twice", *listing).splitlines()) == sorted(original.splitlines())
    place.run("mv", "twice", "moved")
    assert place.assert_stored("moved") == expected
    assert sorted(place.run("env", "-C", "moved", *listing).splitlines()) == sorted(original.splitlines())
    place.shell("mkdir into; mv moved copied into; mv into/moved/dir0/sub/file6 into/copied/dir1/renamed")
    assert set(place.store.names(place.name)) == {"into/"}
    del expected["dir0/sub/file6"]
    assert place.assert_stored("into/moved") == expected
    place.run("find", "into/copied", "-name", "file1*", "-delete")
    assert not [name for name in place.assert_stored("into/copied") if "/file1" in name]
    place.run("find", "into/copied", "-delete")
    assert place.store.names(f"{place.name}/into") == {"moved/"}
    place.run("rm", "-r", "into")
    assert place.assert_stored() == {}


@pytest.mark.requires("vim")
def test_vim_saves(place: WrittenPlace) -> None:
    """With a backup by rename or by copy, and with a swap file."""
    expected = {}
    for way in ("yes", "no", "auto"):
        place.shell(f"seq 100 > file-{way}; chmod 644 file-{way}")
        place.run(
            "vim", "-N", "-u", "NONE", "-i", "NONE", "-es",
            "-c", f"set backupskip= backup writebackup fsync backupcopy={way} swapfile directory=. backupdir=.",
            "-c", "%s/^7$/seven/", "-c", "wq", f"file-{way}",
        )  # fmt: skip
        numbers = "".join(f"{number}\n" for number in range(1, 101))
        expected[f"file-{way}~"] = sha256(numbers.encode())
        expected[f"file-{way}"] = sha256(numbers.replace("\n7\n", "\nseven\n").encode())
    assert place.assert_stored() == expected


def test_flock_of_the_shell(place: WrittenPlace) -> None:
    """A counter that three shells add to under one lock."""
    if find_program("flock") is None:
        pytest.skip("flock is not installed")
    place.shell(
        """
        echo 0 > counter
        for writer in a b c; do
            (for number in $(seq 10); do flock lock sh -euc 'read n < counter; echo $((n + 1)) > counter'; done) &
        done
        wait
        flock lock true
        """
    )
    assert place.read("counter") == b"30\n"
    place.assert_stored()


def test_file_descriptors_of_a_shell(place: WrittenPlace) -> None:
    """One descriptor for reading and writing, one that outlives its name, one that was given on to children."""
    place.shell(
        """
        printf 0123456789 > file
        exec 3<> file; head -c 4 <&3 >/dev/null; exec 3>&-
        exec 4<> file; printf AB >&4; (printf CD >&4) ; exec 4>&-
        exec 5> gone; rm gone; echo more >&5; exec 5>&-
        exec 6< file; mv file moved; test "$(cat <&6)" = ABCD456789; exec 6<&-
        """
    )
    assert place.assert_stored() == {"moved": sha256(b"ABCD456789")}
