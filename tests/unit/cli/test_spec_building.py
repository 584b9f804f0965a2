"""Flags, -o, configuration file and defaults become one spec."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusecache.base.units import MIB
from fusecache.cli.places import Places
from fusecache.cli.spec_building import MountArguments, MountPlan, build_plan
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Engine, Medium, MountSpec


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(os.geteuid(), os.getegid(), str(tmp_path / "cache"), str(tmp_path / "run"), {}, str(tmp_path / "no-shm"))


def _plan(places: Places, *arguments: str, **more: object) -> MountPlan:
    return build_plan(MountArguments(arguments, **more), places)  # type: ignore[arg-type]


def test_defaults(places: Places, tmp_path: Path) -> None:
    plan = _plan(places, "s3://bucket/x", "/mnt")
    spec = plan.spec
    assert [(source.url, source.subdir) for source in spec.sources] == [("s3://bucket/x", "")]
    assert spec.mountpoint == "/mnt"
    assert spec.state_dir == str(tmp_path / "cache" / "fusecache" / spec.dataset_id)
    assert [tier.path for tier in spec.tiers] == [f"{spec.state_dir}/blocks"]
    assert (spec.uid, spec.gid, spec.override_owner) == (os.geteuid(), os.getegid(), False)
    assert spec.allow_other is (os.geteuid() == 0)
    assert plan.timeout_seconds == 60
    assert not (tmp_path / "cache").exists(), "planning must not create anything"


def test_the_spec_survives_its_file(places: Places) -> None:
    spec = _plan(places, "s3://a", "/data=local", "/mnt", options=("region=eu", "ttl=5")).spec
    assert MountSpec.from_json(spec.to_json()) == spec


def test_flags_win_over_options_over_file(places: Places, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("ttl: 1\nnegative_ttl: 1\ndeadline: 1\noptions: {region: file, profile: file}\ntimeout: 7\n")
    spec = _plan(
        places,
        "s3://a",
        "/mnt",
        config=str(config),
        options=("negative_ttl=2", "deadline=2", "ttl=2", "region=typed"),
        flags={"ttl": "3", "engine": None},
    ).spec
    assert (spec.ttl_seconds, spec.negative_ttl_seconds, spec.deadline_seconds) == (3, 2, 2)
    assert dict(spec.sources[0].options) == {"region": "typed", "profile": "file"}
    assert spec.engine is Engine.AUTO
    assert _plan(places, "s3://a", "/mnt", config=str(config)).timeout_seconds == 7
    assert _plan(places, "s3://a", "/mnt", config=str(config), timeout="9").timeout_seconds == 9
    assert _plan(places, "s3://a", "/mnt", timeout="1.5m").timeout_seconds == 90


def test_a_file_can_say_everything(places: Places, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"sources: ['s3://a', {{url: '/data', subdir: d}}]\nmountpoint: /mnt\ntiers: ['{tmp_path}/t:1Mi']\n")
    spec = _plan(places, config=str(config)).spec
    assert [source.subdir for source in spec.sources] == ["", "d"]
    assert [(tier.path, tier.quota_bytes) for tier in spec.tiers] == [
        (f"{tmp_path}/t/fusecache-{places.uid}/{spec.dataset_id}", MIB)
    ]
    assert _plan(places, "/elsewhere", config=str(config)).spec.mountpoint == "/elsewhere"
    assert _plan(places, "s3://other", "/mnt", config=str(config)).spec.sources[0].url == "s3://other"
    assert _plan(places, config=str(config), tiers=("none",)).spec.tiers == ()


def test_tiers_are_ordered_by_medium(places: Places, tmp_path: Path) -> None:
    plan = _plan(places, "s3://a", "/mnt", tiers=(f"{tmp_path}:1Mi", "/dev/shm:1Mi"))
    if plan.spec.tiers[0].medium is not Medium.MEM:
        pytest.skip("/dev/shm is no tmpfs here")
    assert plan.spec.tiers[0].path.startswith("/dev/shm/")
    assert [base for base, _ in plan.tier_directories] == ["/dev/shm", str(tmp_path)]


def test_an_owner_that_is_named_is_shown_everywhere(places: Places) -> None:
    spec = _plan(places, "s3://a", "/mnt", flags={"uid": "1000"}).spec
    assert (spec.uid, spec.override_owner) == (1000, True)


def test_one_dataset_has_one_cache_wherever_it_is_mounted(places: Places) -> None:
    one = _plan(places, "s3://bucket/x", "/mnt").spec.dataset_id
    assert _plan(places, "s3://bucket/x/", "/other", options=("ttl=5", "region=eu")).spec.dataset_id == one
    assert _plan(places, "s3://bucket/y", "/mnt").spec.dataset_id != one
    assert _plan(places, "s3://bucket/x=sub", "/mnt").spec.dataset_id != one
    assert _plan(places, "s3://bucket/x", "/mnt", options=("endpoint_url=http://a",)).spec.dataset_id != one
    assert _plan(places, "s3://bucket/x", "/mnt", options=("block_size=2Mi",)).spec.dataset_id != one
    elsewhere = places._replace(environment={"AWS_ENDPOINT_URL": "http://a"})
    assert _plan(elsewhere, "s3://bucket/x", "/mnt").spec.dataset_id != one


@pytest.mark.parametrize(
    ("arguments", "more", "match"),
    [
        ((), {}, "no mount point"),
        (("/mnt",), {}, "no source to mount"),
        (("s3://a", "s3://b"), {}, "must be the mount point"),
        (("s3://a", "s3://b", "/mnt"), {}, "both at the root"),
        (("s3://a", "/mnt"), {"options": ("block_sise=1Mi",)}, "did you mean 'block_size'"),
        (("s3://a", "/mnt"), {"options": ("=1",)}, "has no name"),
        (("s3://a", "/mnt"), {"options": ("secret_key=abcdefgh",)}, "secret_key_file=PATH"),
        (("s3://a", "/mnt"), {"options": ("block_size=384Ki", "granule_size=256Ki")}, "whole number of granules"),
        (("s3://a", "/mnt"), {"timeout": "-1"}, "timeout is"),
        (("s3://a", "/mnt"), {"tiers": ("/tmp:1Mi", "/tmp:2Mi")}, "same directory"),
        (("bucket/x", "/mnt"), {}, "neither scheme://place nor an absolute path"),
    ],
)
def test_what_is_refused(places: Places, arguments: tuple[str, ...], more: dict[str, object], match: str) -> None:
    with pytest.raises(CacheError, match=match) as caught:
        _plan(places, *arguments, **more)
    assert caught.value.kind is ErrorKind.INVALID


def test_a_quota_larger_than_the_file_system_is_refused(places: Places, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="larger than its file system") as caught:
        _plan(places, "s3://a", "/mnt", tiers=(f"{tmp_path}:900Ti",))
    assert caught.value.kind is ErrorKind.NO_SPACE
