"""What every report's page must be: whole, and in need of no network."""

import re
from html.parser import HTMLParser


def check_page(html: str) -> None:
    """Every tag closed, every link within the page found, every image inside it and named, nothing loaded."""
    parser, opened, anchors, ids = HTMLParser(), list[str](), set[str](), set[str]()

    def start(tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag not in ("meta", "img"):
            opened.append(tag)
        ids.add(given.get("id") or "")
        if tag == "a" and str(given["href"]).startswith("#"):
            anchors.add(str(given["href"])[1:])
        if tag == "img":
            assert str(given["src"]).startswith("data:image/webp;base64,")
            assert given["alt"]

    def end(tag: str) -> None:
        assert opened.pop() == tag

    parser.handle_starttag, parser.handle_endtag = start, end  # type: ignore[method-assign]
    parser.feed(html)
    assert not opened
    assert anchors <= ids
    assert not re.search(r"https?://|<script|@import|url\(", html)
