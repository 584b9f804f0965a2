"""The fast way to read a page says what the XML parser says, or nothing."""

from __future__ import annotations

from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusecache.source import s3_listing
from fusecache.source.s3_listing import ListingError, parse_listing
from fusecache.source.s3_plain_page import RawPage, read_plain_page

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
TAIL = "<IsTruncated>false</IsTruncated></ListBucketResult>"
AWS = (
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
    "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
OTHER = "<Contents><Key>{}</Key><ETag>&#34;e&#34;</ETag><Size>{}</Size></Contents>"
PREFIX = "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>"

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]) | st.sampled_from("&<>\"'%+;#x\n\t\r"), max_size=12)
OBJECTS = st.tuples(st.sampled_from([AWS, OTHER]), TEXTS, st.integers(0, 10**12)).map(
    lambda it: it[0].format(escape(it[1]), it[2])
)
PREFIXES = TEXTS.map(lambda text: PREFIX.format(escape(text)))
TOP = st.tuples(st.sampled_from(["Name", "KeyCount", "Prefix", "NextContinuationToken"]), TEXTS).map(
    lambda it: f"<{it[0]}>{escape(it[1])}</{it[0]}>" if it[1] else f"<{it[0]}/>"
)
PAGES = st.lists(OBJECTS | PREFIXES | TOP, max_size=12).map(lambda parts: HEAD + "".join(parts) + TAIL)
DAMAGE = st.tuples(
    st.integers(0, 2000), st.binary(max_size=3) | st.sampled_from([b"<", b"&", b"<!--x-->", b"&#0;", b"]]>", b" "])
)


def by_the_parser(body: bytes) -> RawPage | None:
    try:
        return s3_listing._Parser().parse(body)
    except ListingError:
        return None


@given(PAGES)
def test_pages_are_read_as_the_parser_reads_them(page: str) -> None:
    plain = read_plain_page(page.encode())
    assert plain is not None or "\r" in page
    if plain is not None:
        assert plain == by_the_parser(page.encode())


@given(PAGES, DAMAGE, st.integers(0, 3))
def test_what_is_damaged_is_read_as_the_parser_reads_it_or_not_at_all(page: str, damage: tuple[int, bytes], cut: int) -> None:
    body = page.encode()
    place = damage[0] % len(body)
    body = body[:place] + damage[1] + body[place + cut :]
    plain = read_plain_page(body)
    assert plain is None or plain == by_the_parser(body)


@pytest.mark.parametrize("shape", [AWS, OTHER])
def test_what_stores_send_needs_no_parser(shape: str) -> None:
    page = read_plain_page((HEAD + "<Delimiter/>" + shape.format("a&amp;b", 5) + PREFIX.format("d/") + TAIL).encode())
    assert page is not None
    assert [(one[0], one[1], one[2]) for one in page.objects] == [("a&b", "5", '"e"')]
    assert page.prefixes == ["d/"]
    assert page.top == {"Delimiter": "", "IsTruncated": "false"}


def test_an_owner_or_a_comment_is_left_to_the_parser() -> None:
    owner = OTHER.format("a", 1).replace("</Contents>", "<Owner><ID>x</ID></Owner></Contents>")
    for page in (HEAD + owner + TAIL, HEAD + "<!-- hello -->" + OTHER.format("a", 1) + TAIL):
        assert read_plain_page(page.encode()) is None
        assert [one.key for one in parse_listing([page.encode()]).objects] == [b"a"]


def test_pages_of_ever_other_shapes_are_left_to_the_parser() -> None:
    objects = "".join(f"<Contents><Key>{n}</Key><Size>1</Size><X{n}>1</X{n}></Contents>" for n in range(20))
    assert read_plain_page((HEAD + objects + TAIL).encode()) is None
