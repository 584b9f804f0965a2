"""Shows a prefix of a bucket as a tree of directories.

Owns the clients of one bucket; called from any thread of fetch at the same time. Listing and stat go through the REST
client, data through the reader that `backend=` names (docs/sources.md has the measurements behind the default).

A file that shares its name with a directory is hidden wherever the two arrive: on one page by comparing, on two pages by
one small request per file that is a prefix of the page's last key. Both stat and listings take size and time from
ListObjectsV2, so that they never contradict each other; metadata of other tools (rclone's mtime, s3fs' mode and owner)
is not mapped for the same reason: listings do not have it.
"""

from __future__ import annotations

import datetime
import email.utils
from collections.abc import Callable, Iterator, Mapping

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.credentials import CredentialChain, CredentialProvider
from fusecache.source.object_names import ListingPosition, NamedPage, file_entry, hidden_reason, name_page
from fusecache.source.object_part import ObjectReader
from fusecache.source.object_version import version_of_etag
from fusecache.source.pieces import take_pieces
from fusecache.source.protocol import Buffer, Capabilities, Entry, EntryKind, Hidden, Page, StartedRead
from fusecache.source.s3_listing import ListedObject, ListingError
from fusecache.source.s3_options import S3Options, parse_s3_options
from fusecache.source.s3_rest import BucketSettings, S3RestClient
from fusecache.source.sigv4 import Signer
from fusecache.source.write_protocol import Writer

SCHEMES = ("s3", "s3a", "minio")
DEFAULT_REGION = "us-east-1"
MAX_PAGE_NAMES = 1000  # S3 sends no more
MAX_KEY_BYTES = 1024


class ObjectStoreSource:
    """A Source over one bucket of an S3-speaking store.

    Invariants: a path names the key `prefix + path` and the other way round; nothing of the tree is kept in memory.
    """

    def __init__(
        self,
        url: str,
        prefix: bytes,
        client: S3RestClient,
        reader: ObjectReader,
        parallel_requests: int,
        *,
        is_oss: bool = False,
        conditional_writes: bool | None = None,
    ) -> None:
        """Args: `conditional_writes`: see S3Options."""
        self.url = url
        self._prefix = prefix
        self._client = client
        self._reader = reader
        self._is_oss = is_oss
        self._conditional_writes = conditional_writes
        self._capabilities = Capabilities(paged_listing=True, parallel_requests=parallel_requests)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def check(self) -> None:
        listing = self._client.list_objects(self._prefix, None, 1)
        if self._prefix and not listing.objects and not listing.prefixes and self._is_object(self._prefix.removesuffix(b"/")):
            raise CacheError(ErrorKind.INVALID, f"{self.url} is an object, no directory of objects; mount the prefix it lies in")

    def _is_object(self, key: bytes) -> bool:
        try:
            listing = self._client.list_objects(key, None, 1)
        except CacheError:  # who may list a prefix only with its slash at the end sees an empty directory, as before
            return False
        return any(one.key == key for one in listing.objects)

    def list_page(self, path: bytes, token: str | None = None, limit: int = MAX_PAGE_NAMES) -> Page:
        prefix = self._directory_prefix(path)
        try:
            before = ListingPosition.decode(token)
        except (ValueError, TypeError) as error:
            raise CacheError(ErrorKind.INVALID, f"{self.url}: {token!r:.80} is not a token of this listing") from error
        listing = self._client.list_objects(prefix, before.store_token, max(1, min(limit, MAX_PAGE_NAMES)))
        try:
            page = name_page(listing, prefix, before)
        except ListingError as error:
            what = f"{self.url}: the store at {self._client.origin} sent a listing that cannot be used: {error}; asked again"
            raise CacheError(ErrorKind.UNAVAILABLE, what) from error
        self._hide_shadowed(page, prefix)
        if listing.next_token is not None:
            return Page(page.entries, page.position.encode(), page.hidden)
        if page.position.is_empty and path and self.stat(path).kind is EntryKind.FILE:
            raise CacheError(ErrorKind.NOT_A_DIRECTORY, f"{self.url}: {path!r} is a file: list the directory it lies in")
        return Page(page.entries, None, page.hidden)

    def stat(self, path: bytes) -> Entry:
        if not path:
            return Entry(b"", EntryKind.DIRECTORY)
        key = self._key(path)
        name = path.rpartition(b"/")[2]
        # One listing answers for the file and for the directory that would shadow it: "name" comes first, "name/" next.
        try:
            listing = self._client.list_objects(key, None, 2)
        except CacheError as error:
            if error.kind is not ErrorKind.DENIED and not _is_utf8(key):  # S3 keys are UTF-8: some stores fail on others
                raise self._not_found(path) from error
            raise
        directory = key + b"/"
        if directory in listing.prefixes:
            return Entry(name, EntryKind.DIRECTORY)
        found = next((one for one in listing.objects if one.key == key), None)
        is_decided = listing.next_token is None or any(k > directory for k in [o.key for o in listing.objects] + listing.prefixes)
        if not is_decided and self._has_children(directory):
            return Entry(name, EntryKind.DIRECTORY)
        if found is None:
            raise self._not_found(path)
        entry = file_entry(name, found)
        return self._stat_by_head(key, name) if entry.needs_stat else entry

    def read(self, path: bytes, version: bytes, offset: int, length: int) -> Buffer:
        return self._reader.read(self._key(path), version, offset, length)

    def read_into(self, path: bytes, version: bytes, offset: int, target: memoryview) -> None:
        if isinstance(self._reader, S3RestClient):
            self._reader.read_into(self._key(path), version, offset, target)
        else:  # a backend that brings its own memory
            target[:] = memoryview(self._reader.read(self._key(path), version, offset, len(target))).cast("B")

    def read_through(
        self, path: bytes, version: bytes, offset: int, length: int, buffer: memoryview, take: Callable[[memoryview], None]
    ) -> None:
        if isinstance(self._reader, S3RestClient):
            self._reader.read_through(self._key(path), version, offset, length, buffer, take)
        else:
            take_pieces(self._reader.stream(self._key(path), version, offset, length), length, buffer, take, self.url)

    @property
    def begins_reads(self) -> bool:
        return self._reader is self._client and self._client.begins_reads

    def begin_read(self, path: bytes, version: bytes, length: int, buffer: memoryview) -> StartedRead | None:
        try:
            return self._client.begin_read(self._key(path), version, length, buffer) if self.begins_reads else None
        except CacheError:
            return None

    def stream(self, path: bytes, version: bytes, offset: int, length: int) -> Iterator[Buffer]:
        return self._reader.stream(self._key(path), version, offset, length)

    def open_writer(self) -> Writer:
        from fusecache.source.s3_write import OSS_DIALECT, S3_DIALECT, S3Writer  # readers need none of it

        dialect = OSS_DIALECT if self._is_oss else S3_DIALECT
        return S3Writer(self._client, self._prefix, self._key_to_write, self.stat, dialect, conditional=self._conditional_writes)

    def close(self) -> None:
        self._reader.close()
        self._client.close()

    def _key(self, path: bytes) -> bytes:
        """Return the key of a path. What no listing shows is not found either."""
        if any(hidden_reason(component) for component in path.split(b"/")) or len(self._prefix) + len(path) > MAX_KEY_BYTES:
            raise self._not_found(path)
        return self._prefix + path

    def _key_to_write(self, path: bytes) -> bytes:
        """The same for what is to be made: a key that is too long is no name that is missing. Markers of directories end with a
        slash more."""
        if len(self._prefix) + len(path) >= MAX_KEY_BYTES:
            raise CacheError(
                ErrorKind.NAME_TOO_LONG, f"{self.url}: a key may have {MAX_KEY_BYTES - 1} bytes; {path[:40]!r}... has more"
            )
        return self._key(path)

    def _directory_prefix(self, path: bytes) -> bytes:
        return self._key(path) + b"/" if path else self._prefix

    def _has_children(self, directory: bytes) -> bool:
        return bool(self._client.list_objects(directory, None, 1, delimiter=False).objects)

    def _hide_shadowed(self, page: NamedPage, prefix: bytes) -> None:
        shadowed = {name for name in page.doubtful if self._has_children(prefix + name + b"/")}
        if shadowed:
            page.hidden += [Hidden(prefix + name, "a directory of the same name exists") for name in sorted(shadowed)]
            page.entries = [one for one in page.entries if one.kind is EntryKind.DIRECTORY or one.name not in shadowed]

    def _stat_by_head(self, key: bytes, name: bytes) -> Entry:
        """For stores whose listings lack ETags."""
        headers = self._client.head(key)
        etag, size = headers.get("etag", ""), headers.get("content-length", "")
        if not version_of_etag(etag):
            raise CacheError(ErrorKind.UNSUPPORTED, f"{self.url}: the store gives {key!r} no strong ETag: use a store that does")
        if not size.isdigit():
            raise CacheError(ErrorKind.UNAVAILABLE, f"{self.url}: the store does not say how large {key!r} is: it is asked again")
        try:
            modified = email.utils.parsedate_to_datetime(headers.get("last-modified", ""))
            mtime_ns = int(modified.replace(tzinfo=modified.tzinfo or datetime.UTC).timestamp()) * 1_000_000_000
        except (ValueError, OverflowError):
            mtime_ns = 0
        return file_entry(name, ListedObject(key, int(size), etag, mtime_ns))

    def _not_found(self, path: bytes) -> CacheError:
        return CacheError(ErrorKind.NOT_FOUND, f"{self.url}: there is no {path!r} in the store: check the name")


def _is_utf8(key: bytes) -> bool:
    try:
        key.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def open_source(url: str, options: Mapping[str, str], env: Mapping[str, str]) -> ObjectStoreSource:
    """Open `s3://bucket/prefix` (s3a, minio). No request is made. Raises INVALID for a bad URL or option."""
    scheme, bucket, prefix = split_url(url, SCHEMES)
    parsed = parse_s3_options(scheme, options, env)
    if scheme == "minio" and not parsed.endpoint_url:
        raise CacheError(ErrorKind.INVALID, f"{url}: a minio:// source needs its server: give -o endpoint_url=http://host:9000")
    credentials = CredentialChain(parsed.credentials, env)
    settings = bucket_settings(f"{scheme}://{bucket}/{prefix.decode('utf-8', 'replace')}".rstrip("/"), bucket, parsed)
    client = S3RestClient(settings, Signer(parsed.region or DEFAULT_REGION), credentials)
    reader = open_reader(parsed, settings, client, credentials)
    return ObjectStoreSource(
        settings.url, prefix, client, reader, parsed.parallel_requests, conditional_writes=parsed.conditional_writes
    )


def split_url(url: str, schemes: tuple[str, ...]) -> tuple[str, str, bytes]:
    """Return scheme, bucket and key prefix (b"" or ending in "/"). Nothing is percent-decoded: keys are taken as written."""
    scheme, separator, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    if not separator or scheme not in schemes:
        raise CacheError(ErrorKind.INVALID, f"{url!r} is not one of {', '.join(s + '://' for s in schemes)}")
    if not bucket or not all(character.isascii() and (character.isalnum() or character in "-._") for character in bucket):
        raise CacheError(
            ErrorKind.INVALID, f"{url!r} names no bucket: write {scheme}://BUCKET/PREFIX (keys and passwords do not belong here)"
        )
    prefix = path.strip("/").encode("utf-8", "surrogateescape")
    return scheme, bucket, prefix + b"/" if prefix else b""


def bucket_settings(url: str, bucket: str, options: S3Options) -> BucketSettings:
    """Own endpoints get the bucket in the path; AWS in the host name, unless its certificate would not fit (a dot)."""
    path_style = options.path_style if options.path_style is not None else bool(options.endpoint_url) or "." in bucket
    return BucketSettings(
        url=url,
        bucket=bucket,
        endpoint_url=options.endpoint_url,
        is_path_style=path_style,
        may_change_region=not options.region,
        ca_file=options.ca_file,
        connect_timeout_seconds=options.connect_timeout_seconds,
        read_timeout_seconds=options.read_timeout_seconds,
        verify_etag=options.verify_etag,
        requester_pays=options.requester_pays,
    )


def open_reader(
    options: S3Options, settings: BucketSettings, client: S3RestClient, credentials: CredentialProvider
) -> ObjectReader:
    """Return the client that reads data; the foreign ones are imported only here (s3fs takes 270 ms)."""
    if options.backend == "obstore":
        from fusecache.source.s3_read_obstore import ObstoreReader

        return ObstoreReader(settings, options.region or DEFAULT_REGION, client, credentials)
    if options.backend == "s3fs":
        from fusecache.source.s3_read_s3fs import S3fsReader

        return S3fsReader(settings, options.region or DEFAULT_REGION, credentials)
    return client
