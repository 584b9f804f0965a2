"""The writer of buckets of OSS, which creates under a header of its own and compares no versions: over a fake that signs with the
SDK of OSS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fusecache.contract.errors import ErrorKind
from fusecache.source.oss import open_source
from fusecache.source.protocol import Source
from fusecache.source.write_protocol import Guard, Metadata, Writer
from tests.contract.source_suite import ODD_NAMES, SourceWorld, content, fails
from tests.contract.writer_suite import WriterSuite, operation
from tests.support.fake_oss import ACCESS_KEY, REGION, SECRET_KEY, FakeOss


class TestOssWriter(WriterSuite):
    @pytest.fixture(params=["oss-v1", "oss-v4"])
    def oss(self, request: pytest.FixtureRequest) -> Iterator[FakeOss]:
        with FakeOss(request.param) as store:
            yield store
            assert store.uploads == {}, "an upload was left behind"

    @pytest.fixture
    def world(self, oss: FakeOss) -> SourceWorld:
        options = {
            "fs.oss.endpoint": oss.virtual_host_url,
            "fs.oss.bucket.bucket.accessKeyId": ACCESS_KEY,
            "fs.oss.bucket.bucket.accessKeySecret": SECRET_KEY,
            "region": REGION,
            "signature": "v4" if oss.dialect == "oss-v4" else "v1",
        }

        def put(key: bytes, body: bytes) -> None:
            oss.objects[b"pre fix/" + key] = body

        def delete(key: bytes) -> None:
            oss.objects.pop(b"pre fix/" + key, None)

        return SourceWorld(lambda: open_source("oss://bucket/pre fix", options, {}), put, delete, put, odd_names=ODD_NAMES)

    def test_the_signature_is_looked_at(self, oss: FakeOss, world: SourceWorld) -> None:
        source = world.open()
        oss.secret_key = "another"
        fails(ErrorKind.DENIED, lambda: source.open_writer().check())  # type: ignore[attr-defined]
        source.close()

    def test_what_it_is_sure_of(self, writer: Writer) -> None:
        assert (writer.capabilities.create, writer.capabilities.replace) == (Guard.STORE, Guard.LATE_CHECK)

    def test_an_upload_of_parts_that_are_copied(self, source: Source, writer: Writer, oss: FakeOss, directory: bytes) -> None:
        """What a change in the middle of a large object is made of."""
        path, body = directory + b"/large", content(16 << 20, "oss")
        entry = self.put(writer, path, body)
        upload = writer.begin_upload(path, Metadata(), entry.version, operation())
        parts = [
            writer.copy_part(upload, 1, 0, 8 << 20, path, entry.version, 0),
            writer.copy_part(upload, 2, 8 << 20, 8 << 20, path, entry.version, 0),
        ]
        made = writer.complete(upload, parts, entry.version)
        assert made.size == 16 << 20
        assert oss.objects[b"pre fix/" + path] == body[: 8 << 20] * 2
        assert source.stat(path).version == made.version
