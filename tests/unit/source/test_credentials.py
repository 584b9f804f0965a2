"""Keys come from the first place that has them, rotate without a restart, and never show themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source import credentials
from fusecache.source.credentials import OSS_NAMES, Credential, CredentialChain, CredentialSettings
from fusecache.source.s3 import open_source
from tests.support.fake_object_store import FakeObjectStore, Request

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": "env-secret", "AWS_SESSION_TOKEN": "env-token"}


def keys(found: Credential | None) -> tuple[str, str, str]:
    assert found is not None
    return found.access_key, found.secret_key, found.session_token


@pytest.fixture
def files(tmp_path: Path) -> CredentialSettings:
    for name, value in (("id", "AK1\n"), ("secret", "S1\n"), ("token", "T1")):
        (tmp_path / name).write_text(value)
    return CredentialSettings(
        access_key_file=str(tmp_path / "id"), secret_key_file=str(tmp_path / "secret"), session_token_file=str(tmp_path / "token")
    )


def replace(path: Path, text: str) -> None:
    """As a mounted Secret does: a new inode under the old name."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_the_environment_is_the_one_given_not_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKPROCESS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "process-secret")
    assert keys(CredentialChain(CredentialSettings(), ENVIRONMENT).get()) == ("AKENV", "env-secret", "env-token")
    with pytest.raises(CacheError) as caught:
        CredentialChain(CredentialSettings(), {"HOME": str(tmp_path)}).get()
    assert caught.value.kind is ErrorKind.DENIED
    assert "AWS_ACCESS_KEY_ID" in str(caught.value)


def test_oss_has_names_of_its_own(tmp_path: Path) -> None:
    environment = {"OSS_ACCESS_KEY_ID": "LTAI", "OSS_ACCESS_KEY_SECRET": "s", **ENVIRONMENT, "HOME": str(tmp_path)}
    assert keys(CredentialChain(CredentialSettings(names=OSS_NAMES), environment).get()) == ("LTAI", "s", "")
    with pytest.raises(CacheError, match="OSS_ACCESS_KEY_ID"):
        CredentialChain(CredentialSettings(names=OSS_NAMES), {**ENVIRONMENT, "HOME": str(tmp_path)}).get()


def test_half_of_a_pair_is_refused() -> None:
    with pytest.raises(CacheError, match="belong together"):
        CredentialSettings(access_key="AK")
    with pytest.raises(CacheError, match="give all three"):
        CredentialSettings(session_token_file="/token")
    with pytest.raises(CacheError, match="one half"):
        CredentialChain(CredentialSettings(), {"AWS_ACCESS_KEY_ID": "AK"}).get()


def test_files_win_and_are_read_again_when_they_change(files: CredentialSettings, tmp_path: Path) -> None:
    chain = CredentialChain(files, ENVIRONMENT)
    first = chain.get()
    assert keys(first) == ("AK1", "S1", "T1")
    assert chain.get() is first
    replace(tmp_path / "id", "AK2")
    replace(tmp_path / "secret", "S2")
    stamp = os.stat(tmp_path / "token").st_mtime_ns
    (tmp_path / "token").write_text("T2 longer")  # same inode
    os.utime(tmp_path / "token", ns=(stamp + 1, stamp + 1))
    assert keys(chain.get()) == ("AK2", "S2", "T2 longer")
    assert not chain.refresh()


def test_a_set_that_is_being_replaced_is_not_used(
    files: CredentialSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "PAIR_SECONDS", 0.3)
    chain = CredentialChain(files, ENVIRONMENT)
    chain.get()
    replace(tmp_path / "id", "AK2")
    assert keys(chain.get()) == ("AK1", "S1", "T1"), "keys that nobody gave out"
    replace(tmp_path / "secret", "S2")
    assert keys(chain.get()) == ("AK1", "S1", "T1")
    replace(tmp_path / "token", "T2")
    assert keys(chain.get()) == ("AK2", "S2", "T2")
    replace(tmp_path / "secret", "S3")
    assert keys(chain.get()) == ("AK2", "S2", "T2")
    time.sleep(0.4)
    assert keys(chain.get()) == ("AK2", "S3", "T2"), "only one of them was to change"
    replace(tmp_path / "secret", "S4")
    assert chain.refresh(), "the store refused the old keys: the new ones are tried at once"
    assert keys(chain.get()) == ("AK2", "S4", "T2")


def test_a_missing_or_empty_file_is_named(files: CredentialSettings, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(CacheError, match="secret' is empty"):
        CredentialChain(files, {}).get()
    (tmp_path / "secret").unlink()
    with pytest.raises(CacheError, match="cannot be read"):
        CredentialChain(files, {}).get()


def test_config_files_and_profiles_through_botocore(tmp_path: Path) -> None:
    aws = tmp_path / ".aws"
    aws.mkdir()
    (aws / "credentials").write_text("[default]\naws_access_key_id=AKD\naws_secret_access_key=SD\n")
    (aws / "config").write_text("[profile other]\naws_access_key_id=AKO\naws_secret_access_key=SO\n")
    environment = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    chain = CredentialChain(CredentialSettings(), environment)
    assert keys(chain.get()) == ("AKD", "SD", "")
    assert keys(CredentialChain(CredentialSettings(profile="other"), {**ENVIRONMENT, **environment}).get()) == ("AKO", "SO", "")
    replace(aws / "credentials", "[default]\naws_access_key_id=AKD2\naws_secret_access_key=SD2\n")
    assert keys(chain.get()) == ("AKD2", "SD2", "")
    with pytest.raises(CacheError, match="nobody"):
        CredentialChain(CredentialSettings(profile="nobody"), environment).get()


def test_anonymous_asks_nobody() -> None:
    assert CredentialChain(CredentialSettings(anonymous=True), ENVIRONMENT).get() is None


def test_secrets_do_not_show() -> None:
    settings = CredentialSettings(access_key="AK", secret_key="hush", session_token="hush-token")
    text = repr(settings) + repr(Credential("AK", "hush", "hush-token"))
    assert "hush" not in text
    assert "AK" in text


@pytest.fixture
def store() -> Iterator[FakeObjectStore]:
    with FakeObjectStore() as fake:
        fake.objects = {b"file": b"content"}
        yield fake


@pytest.mark.parametrize("backend", ["rest", "obstore", "s3fs"])
def test_rotation_reaches_requests(store: FakeObjectStore, files: CredentialSettings, tmp_path: Path, backend: str) -> None:
    store.access_keys = {"AK1"}
    options = {
        "endpoint_url": store.url,
        "backend": backend,
        "access_key_file": files.access_key_file,
        "secret_key_file": files.secret_key_file,
    }
    source = open_source("s3://bucket", options, {})
    version = source.stat(b"file").version
    assert source.read(b"file", version, 0, 7) == b"content"
    store.access_keys = {"AK2"}
    with pytest.raises(CacheError) as caught:
        source.stat(b"file")
    assert caught.value.kind is ErrorKind.DENIED
    replace(tmp_path / "id", "AK2")
    replace(tmp_path / "secret", "S2")
    assert source.stat(b"file").version == version
    if backend == "obstore":  # it keeps keys for some seconds
        source.close()
        source = open_source("s3://bucket", options, {})
    assert source.read(b"file", version, 0, 7) == b"content"
    source.close()


def test_keys_rotated_between_reading_and_refusal_are_tried_once(
    store: FakeObjectStore, files: CredentialSettings, tmp_path: Path
) -> None:
    store.access_keys = {"AK2"}
    seen: list[Request] = []

    def rotate_then_refuse(request: Request, honest: object) -> object:
        if not seen:
            replace(tmp_path / "id", "AK2")
        seen.append(request)
        return honest

    store.lie = rotate_then_refuse  # type: ignore[assignment]
    options = {"endpoint_url": store.url, "access_key_file": files.access_key_file, "secret_key_file": files.secret_key_file}
    source = open_source("s3://bucket", options, {})
    source.check()
    assert len(seen) == 2
    source.close()


def test_opening_a_source_imports_no_foreign_client() -> None:
    code = (
        "import sys; from fusecache.source.s3 import open_source; "
        "open_source('s3://b', {'endpoint_url': 'http://x', 'access_key': 'a', 'secret_key': 'b'}, {}); "
        "print(sorted({'botocore', 'obstore', 's3fs', 'aiohttp', 'fsspec', 'urllib3', 'requests'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert ran.stdout.strip() == "[]"
