"""From the mounts of a Dataset to sources: addresses, options, and where their credentials are.

Options come in layers, later ones win: properties of the runtime, `sharedOptions`, `options` of the mount; and
`sharedEncryptOptions`, `encryptOptions`. A credential in clear text is used, and pointed at rather than copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from csi.operator.model.dataset import Dataset
from csi.operator.model.encrypt_option import EncryptOption
from csi.operator.model.mount import Mount
from csi.operator.model.user import User
from csi.operator.resolve.findings import Findings, Path, spec_path
from csi.operator.resolve.juicefs_bucket import source_of_bucket
from csi.operator.resolve.mount_point import MountPoint
from csi.operator.resolve.option_layers import Layer, Reading, Written, layer
from csi.operator.resolve.option_row import Effect, Table
from csi.operator.resolve.store_options import ENCRYPTS, TABLES
from csi.operator.resolved import ClearText, ResolvedSource, SecretKey

_PER_BUCKET = re.compile(r"(fs\.(?:oss|s3a)\.)bucket\.(.+?)\.((?:[a-z]+\.)*[A-Za-z]+)")
_SECRET_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_SECRET_KEY = re.compile(r"[A-Za-z0-9._-]{1,253}")
_SPEAKING_S3 = frozenset({"s3", "oss", "cos", "obs", "bos", "gs"})
_WITH_BUCKET_IN_HOST = frozenset({"cos", "obs", "bos"})
_GOOGLE_S3 = "https://storage.googleapis.com"
_OSS_HDFS = re.compile(r"(^|[.-])dls([.-]|$)")
_EXAMPLES = {"oss": "oss-cn-beijing.aliyuncs.com", "obs": "obs.cn-north-4.myhuaweicloud.com", "bos": "s3.bj.bcebos.com"}


@dataclass(slots=True)
class _Draft:
    """A source in the making."""

    path: Path
    point: MountPoint
    store: str
    url: str
    read_only: bool
    options: dict[str, str] = field(default_factory=dict)
    decisions: dict[str, Written] = field(default_factory=dict)
    clear: dict[str, Written] = field(default_factory=dict)
    secrets: dict[str, SecretKey] = field(default_factory=dict)

    def has(self, target: str) -> bool:
        return target in self.secrets or target in self.clear


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What sources depend on beside their mounts.

    Attributes:
        runtime_layers: properties of the runtime, weakest first.
        oss_secret: Secret with credentials for oss:// mounts that have none.
        run_as: whom NFS servers see.
        is_written: the Dataset may be written.
    """

    runtime_layers: Sequence[Layer] = ()
    oss_secret: str = ""
    run_as: User | None = None
    is_written: bool = False


def resolve_sources(
    dataset: Dataset, points: Mapping[int, MountPoint], places: Mapping[int, str], context: SourceContext, reading: Reading
) -> tuple[ResolvedSource, ...]:
    """Return the sources of those mounts that have a place, in their order."""
    return _Resolving(dataset, context, reading).resolve(points, places)


class _Resolving:
    def __init__(self, dataset: Dataset, context: SourceContext, reading: Reading) -> None:
        self._spec = dataset.spec
        self._context = context
        self._reading = reading
        self._findings: Findings = reading.findings
        self._shared = layer(self._spec.shared_options, "sharedOptions")
        self._known_secrets: set[Path] = set()

    def resolve(self, points: Mapping[int, MountPoint], places: Mapping[int, str]) -> tuple[ResolvedSource, ...]:
        self._reading.saw(*self._context.runtime_layers, self._shared)
        sources = []
        for index, point in points.items():
            draft = self._draft(index, self._spec.mounts[index], point)
            if index in places:
                sources.append(self._finished(draft, places[index]))
        self._refuse_unknown_secrets(points)
        return tuple(sources)

    def _draft(self, index: int, mount: Mount, point: MountPoint) -> _Draft:
        path: Path = ("mounts", index)
        draft = _Draft(path, point, point.store, point.url, mount.read_only or point.store == "http")
        table = TABLES[point.store]
        own = layer(mount.options, *path, "options")
        self._reading.saw(own)
        secret_names = self._read_secrets(draft, mount, table, {written.key for written in (*self._shared, *own)})
        for each in (*self._context.runtime_layers, self._shared, own):
            self._read_layer(
                draft, table, tuple(written for written in each if written.on_runtime or written.key not in secret_names)
            )
        self._check_credentials(draft)
        _FINISHING.get(draft.store, _as_it_is)(self, draft)
        if draft.store in _SPEAKING_S3:
            self._check_pair(draft)
            _write_scheme_into_endpoint(draft.options)
        return draft

    # --- options in clear text -------------------------------------------------------------------------------------------

    def _read_layer(self, draft: _Draft, table: Table, options: Layer) -> None:
        general = {written.key: written for written in options if not _PER_BUCKET.fullmatch(written.key)}
        of_bucket = {key: written for written in options if (key := _without_bucket(written.key, draft.point))}
        for group in (general, of_bucket):  # the second wins
            for key, row in table.in_order(group):
                written = group[key]
                value = self._reading.value(row, written)
                if value is None:
                    continue
                if row.effect is Effect.SOURCE:
                    draft.options[row.target] = value
                elif row.effect is Effect.SECRET and value:
                    draft.clear[row.target] = written
                elif row.effect is Effect.DECISION:
                    draft.decisions[row.target] = Written(written.key, value, written.path, written.on_runtime)

    # --- options from Secrets --------------------------------------------------------------------------------------------

    def _read_secrets(self, draft: _Draft, mount: Mount, table: Table, clear: set[str]) -> set[str]:
        """Return the names of the encrypted options of a mount."""
        given: dict[str, tuple[Path, EncryptOption]] = {}
        for path, encrypted in (
            (("sharedEncryptOptions",), self._spec.shared_encrypt_options),
            ((*draft.path, "encryptOptions"), mount.encrypt_options),
        ):
            for number, each in enumerate(encrypted):
                given[each.name] = ((*path, number), each)
        for name, (path, each) in given.items():
            row = table.find(_without_bucket(name, draft.point) or name)
            if name in clear:
                self._known_secrets.add(path)
                self._findings.refuse(
                    f"{spec_path(draft.path)}: option {_shown(name)} is set both in options and in encryptOptions"
                )
            elif row is not None:
                self._known_secrets.add(path)
                if row.effect is Effect.SECRET or row.may_be_secret:
                    self._take_secret(draft, row.target, path, each)
                elif row.effect is Effect.REFUSED:
                    self._findings.refuse(f"{spec_path(path)}: {_shown(name)}: {row.note}")
                elif row.effect in (Effect.SOURCE, Effect.DECISION):
                    self._findings.refuse(
                        f"{spec_path(path)}: {_shown(name)} cannot be taken from a Secret: write it into options"
                    )
        return set(given)

    def _take_secret(self, draft: _Draft, target: str, path: Path, each: EncryptOption) -> None:
        reference = each.value_from.secret_key_ref
        if not _SECRET_NAME.fullmatch(reference.name):
            self._findings.refuse(f"{spec_path(path)}.valueFrom.secretKeyRef.name is no name of a Secret")
        elif not _SECRET_KEY.fullmatch(each.key):
            self._findings.refuse(f"{spec_path(path)}.valueFrom.secretKeyRef.key is no key that a Secret can have")
        else:
            draft.secrets[target] = SecretKey(reference.name, each.key)

    def _refuse_unknown_secrets(self, points: Mapping[int, MountPoint]) -> None:
        lists: list[tuple[Path, Sequence[EncryptOption]]] = [(("sharedEncryptOptions",), self._spec.shared_encrypt_options)]
        lists += [(("mounts", index, "encryptOptions"), self._spec.mounts[index].encrypt_options) for index in points]
        for path, encrypted in lists:
            last = {each.name: number for number, each in enumerate(encrypted)}
            for name, number in last.items():
                if (*path, number) not in self._known_secrets and not self._is_overridden(path, name):
                    message = f"{_shown(name)} is no secret option of this kind of store: correct its name"
                    self._findings.refuse(f"{spec_path((*path, number))}: {message}")

    def _is_overridden(self, path: Path, name: str) -> bool:
        """An option for all mounts counts as known if every mount has its own."""
        mounts = self._spec.mounts
        return len(path) == 1 and all(any(each.name == name for each in mount.encrypt_options) for mount in mounts)

    # --- credentials -----------------------------------------------------------------------------------------------------

    def _check_credentials(self, draft: _Draft) -> None:
        for target in [target for target in draft.clear if target in draft.secrets]:
            written = draft.clear.pop(target)
            if not written.on_runtime:
                message = f"option {written.key} is set both in options and in encryptOptions, there under another name"
                self._refuse(draft, message)
        if draft.store == "oss" and self._context.oss_secret and not draft.has("access_key") and not draft.has("secret_key"):
            secret = self._context.oss_secret
            draft.secrets["access_key"] = SecretKey(secret, "AccessKeyId")
            draft.secrets["secret_key"] = SecretKey(secret, "AccessKeySecret")
            draft.secrets["session_token"] = SecretKey(secret, "SecurityToken", is_optional=True)

    def _check_pair(self, draft: _Draft) -> None:
        if draft.has("access_key") != draft.has("secret_key"):
            self._findings.refuse(f"{spec_path(draft.path)}: only one of access key and secret key is given: give both")
        elif draft.has("session_token") and not draft.has("access_key"):
            self._refuse(draft, "a session token belongs to an access key and a secret key: give all three")
        elif draft.store == "oss" and ("access_key" in draft.clear) != ("secret_key" in draft.clear):
            self._findings.refuse(
                f"{spec_path(draft.path)}: one of access key and secret key is encrypted, the other in clear text: encrypt both"
            )

    def _finished(self, draft: _Draft, place: str) -> ResolvedSource:
        for written in draft.clear.values():
            self._findings.clear_text(written.path, written.on_runtime)
        credentials: dict[str, SecretKey | ClearText] = {
            target: ClearText(written.path, written.on_runtime) for target, written in draft.clear.items()
        }
        if ENCRYPTS in draft.decisions and draft.decisions[ENCRYPTS].value == "true" and self._is_written(draft):
            written = draft.decisions[ENCRYPTS]
            self._findings.refuse(
                f"{spec_path(written.path)}: what is written cannot be encrypted by request: switch encryption on for the bucket",
                on_runtime=written.on_runtime,
            )
        options = dict(sorted(draft.options.items()))
        if draft.url.startswith("file:") and self._is_written(draft):
            options["all_squash"] = "true"  # cache pods are nobody's: they cannot give files to who writes them
        return ResolvedSource(
            url=draft.url,
            place=place,
            options=options,
            secrets=dict(sorted((credentials | draft.secrets).items())),
            read_only=draft.read_only,
            claim=draft.point.claim,
            host_path=draft.point.host_path,
        )

    def _is_written(self, draft: _Draft) -> bool:
        return self._context.is_written and not draft.read_only

    # --- what single stores need -----------------------------------------------------------------------------------------

    def _refuse(self, draft: _Draft, message: str) -> None:
        self._findings.refuse(f"{spec_path(draft.path)}: {message}")

    def _finish_s3(self, draft: _Draft) -> None:
        if draft.point.scheme == "minio" and "endpoint_url" not in draft.options:
            self._refuse(draft, "a minio:// mount needs the address of its store: give option minio-url")

    def _finish_other_store(self, draft: _Draft) -> None:
        """Stores that speak S3 under addresses of their own."""
        region = draft.options.get("region", "")
        if draft.store == "cos" and region:
            draft.options.setdefault("endpoint_url", f"cos.{region}.myqcloud.com")
        if "endpoint_url" not in draft.options:
            cure = (
                "give its region or endpoint" if draft.store == "cos" else f"give its endpoint, such as {_EXAMPLES[draft.store]}"
            )
            self._refuse(draft, f"{draft.store} endpoint can not be null: {cure}")
        if draft.store in _WITH_BUCKET_IN_HOST:
            draft.options.setdefault("path_style", "false")

    def _finish_oss(self, draft: _Draft) -> None:
        self._finish_other_store(draft)
        if _OSS_HDFS.search(draft.options.get("endpoint_url", "")):
            self._refuse(draft, "the endpoint (dls) is one of OSS-HDFS, another protocol: give the OSS endpoint of the region")
        if draft.options.get("signature") == "v4" and "region" not in draft.options:
            self._refuse(draft, "signature v4 needs the region: give it, such as cn-beijing")

    def _finish_google(self, draft: _Draft) -> None:
        """Google's store speaks S3 to whoever has an HMAC key, or wants none. Its own interface alone knows who the pod is."""
        if draft.has("access_key") or "endpoint_url" in draft.options or draft.options.get("anonymous") == "true":
            draft.url = "s3" + draft.url.removeprefix("gs")
            draft.options.setdefault("endpoint_url", _GOOGLE_S3)
        else:
            draft.options.clear()

    def _finish_azure(self, draft: _Draft) -> None:
        if draft.point.account:
            draft.options["account_name"] = draft.point.account
        if "account_name" not in draft.options:
            self._refuse(draft, "the account is not named: write abfs://container@account.dfs.core.windows.net")

    def _finish_web(self, draft: _Draft) -> None:
        has_user = "user" in draft.options or draft.has("user")
        if draft.has("token") and (has_user or draft.has("password")):
            self._refuse(draft, "token and user or password exclude each other: give one of them")
        elif has_user != draft.has("password"):
            self._refuse(draft, "only one of user and password is given: give both")
        if draft.has("user"):
            draft.options.pop("user", None)

    def _finish_nfs(self, draft: _Draft) -> None:
        """Servers see whom the runtime runs as, else root, as they would see the kernel's client."""
        user = self._context.run_as
        draft.options.setdefault("uid", str(user.uid if user and 0 <= user.uid < 1 << 31 else 0))
        draft.options.setdefault("gid", str(user.gid if user and 0 <= user.gid < 1 << 31 else 0))

    def _finish_juicefs(self, draft: _Draft) -> None:
        said = {target: written.value.strip() for target, written in draft.decisions.items()}
        directory = said.get("subdir", "").strip("/")
        if draft.url and directory and draft.url != directory:
            self._refuse(draft, "option subdir and the directory of the mount point differ: give one of them")
        if said.get("quota") and self._is_written(draft):
            self._refuse(draft, "option quota cannot be kept on a Dataset that may be written: leave it out")
        if ".." in directory.split("/"):
            self._refuse(draft, "option subdir contains ..: write the directory that is meant")
        elif not said.get("storage") or not said.get("bucket"):
            self._refuse(
                draft,
                "a juicefs:// mount is served from a plain bucket: give options storage and bucket. JuiceFS-formatted volume: "
                "reading its metadata is not supported",
            )
        else:
            try:
                draft.store, draft.url, options = source_of_bucket(said["storage"], said["bucket"], draft.url or directory)
            except ValueError as error:
                self._refuse(draft, str(error))
            else:
                draft.options = {**options, **draft.options}
                if draft.store != "s3":
                    _FINISHING[draft.store](self, draft)


def _as_it_is(resolving: _Resolving, draft: _Draft) -> None:
    """Nothing is missing."""


_FINISHING: dict[str, Callable[[_Resolving, _Draft], None]] = {
    "s3": _Resolving._finish_s3,
    "oss": _Resolving._finish_oss,
    **dict.fromkeys(("cos", "obs", "bos"), _Resolving._finish_other_store),
    "gs": _Resolving._finish_google,
    "abfs": _Resolving._finish_azure,
    "nfs": _Resolving._finish_nfs,
    "http": _Resolving._finish_web,
    "juicefs": _Resolving._finish_juicefs,
}


def _write_scheme_into_endpoint(options: dict[str, str]) -> None:
    """Plain HTTP is a matter of the address for us, a switch beside it for others."""
    use_tls = options.pop("use_tls", "true")
    if use_tls == "false" and "://" not in options.get("endpoint_url", "://"):
        options["endpoint_url"] = "http://" + options["endpoint_url"]


def _shown(name: str) -> str:
    """Return the name of an option, as messages have it."""
    return name[:200] if name.isprintable() else ascii(name[:200])


def _without_bucket(key: str, point: MountPoint) -> str:
    """Return the general key of one for the bucket of the mount point, "" for others."""
    match = _PER_BUCKET.fullmatch(key)
    bucket = point.url.partition("://")[2].partition("/")[0]
    if match is None:
        return ""
    prefix = f"{match[1]}bucket.{bucket}."
    return match[1] + key.removeprefix(prefix) if bucket and key.startswith(prefix) else ""
