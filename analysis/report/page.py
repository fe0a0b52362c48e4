"""The report's page: one HTML file that needs no network, reads well on paper and on a phone."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from analysis.formatting import listed
from analysis.records.provenance import Source

PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Shown:
    """What is left of a figure once it is written: its words, its image, and the names of its tables' files."""

    name: str
    title: str
    caption: str
    details: str
    alt: str
    tables: Sequence[str]
    image: bytes


@dataclass(frozen=True)
class Section:
    """A part of the page that unfolds, with an entry in its table of contents; none where `html` is empty."""

    anchor: str
    title: str
    html: str


def page(title: str, subtitle: str, first_screen: str, sections: Sequence[Section]) -> str:
    """The whole document: the first screen, the table of contents, the folded sections."""
    shown = [item for item in sections if item.html]
    entries = "".join(f'<li><a href="#{item.anchor}">{escape(item.title)}</a></li>' for item in shown)
    contents = f'<nav aria-label="Contents"><ul>{entries}</ul></nav>'
    # The anchor lies inside of what is folded: following a link to it unfolds it.
    parts = [
        f"<section><details><summary><h2>{escape(item.title)}</h2></summary>\n"
        f'<div id="{item.anchor}">{item.html}</div></details></section>'
        for item in shown
    ]
    body = "\n".join([first_screen, contents, *parts])
    return PAGE.substitute(title=escape(title), subtitle=escape(subtitle), body=body)


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def box(kind: str, html: str) -> str:
    """A box that stands out: `verdict` or `warning`; nothing where there is nothing in it."""
    return f'<div class="{kind}">{html}</div>' if html else ""


def bullets(texts: Sequence[str]) -> str:
    """A list of plain texts, or nothing."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>" if texts else ""


def folded(summary: str, html: str) -> str:
    """Content behind a line that unfolds it, or nothing."""
    return f"<details><summary>{escape(summary)}</summary>{html}</details>" if html else ""


def figure(shown: Shown, source: Source, warning: str = "") -> str:
    """An image inside the page with its text for those who do not see it, its caption, its data and its source."""
    data = listed([f"figures/{name}" for name in shown.tables])
    more = f"<p>Drawn again by <code>{escape(source.command(shown.name))}</code>. Data: {escape(data)}.</p>"
    more = (paragraph(shown.details) if shown.details else "") + more
    return (
        f'<figure><div class="picture" role="region" tabindex="0" aria-label="{escape(shown.title)}">'
        f'<img src="data:image/webp;base64,{b64encode(shown.image).decode("ascii")}" alt="{escape(shown.alt)}"></div>\n'
        f"<figcaption>{paragraph(shown.caption + warning)}{folded('Details, data and source', more)}</figcaption>"
        "</figure>"
    )


def figures(shown: Sequence[Shown], group: str, source: Source, warning: str = "") -> str:
    """All figures of a group, each under its title where they are several."""
    of_group = [item for item in shown if source.group(item.name) == group]
    heads = [f"<h3>{escape(item.title)}</h3>" if len(of_group) > 1 else "" for item in of_group]
    return "".join(head + figure(item, source, warning) for head, item in zip(heads, of_group, strict=True))
