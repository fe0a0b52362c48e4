"""The report's page: one HTML file that needs no network, reads well on paper and on a phone."""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from string import Template

from analysis.figures.catalogue import group_of
from analysis.records.provenance import Source

STYLE = """
:root { --ink: #1c1c1c; --soft: #5c5c5c; --line: #dcdcdc; --accent: #0b5c8f; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1.2rem 4rem; max-width: 80rem; color: var(--ink); background: #fff;
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.35rem; line-height: 1.2; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 0; display: inline; } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { max-width: 60rem; overflow-wrap: anywhere; margin: .5rem 0; } li { overflow-wrap: anywhere; }
.soft, figcaption, .soft p { color: var(--soft); font-size: .85rem; }
header p { margin: 0 0 .6rem; }
.screen { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0 1.6rem; align-items: start; }
@media (min-width: 60rem) { .screen { grid-template-columns: minmax(0, 5fr) minmax(0, 7fr); } }
.verdict { border-left: 4px solid var(--accent); background: #f3f7fa; padding: .5rem .9rem; margin: 0 0 .7rem; }
.verdict p { margin: .25rem 0; }
.warning { border-left: 4px solid #d55e00; background: #fdf4ee; padding: .3rem .9rem; margin: .6rem 0; }
ul, ol { margin: .2rem 0; padding-left: 1.2rem; } .verdict li { margin: .25rem 0; }
nav { border-bottom: 1px solid var(--line); margin: .8rem 0 0; }
nav ul { list-style: none; padding: 0 0 .5rem; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .85rem; }
a { color: var(--accent); }
section > details { border-bottom: 1px solid var(--line); padding: .55rem 0; }
figure { margin: .3rem 0 .8rem; } figure img { width: 100%; height: auto; max-width: 58rem; display: block; }
.picture { overflow-x: auto; } .picture img { min-width: 34rem; }
figcaption { max-width: 58rem; } figcaption p { margin: .3rem 0; max-width: none; }
details { margin: .3rem 0; } summary { cursor: pointer; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
td { max-width: 22rem; overflow-wrap: break-word; }
th { font-weight: 600; vertical-align: bottom; } thead th { border-bottom: 1.5px solid #888; }
td.number, th.number { text-align: right; white-space: nowrap; } th.number { white-space: normal; max-width: 9rem; }
.skip { position: absolute; left: -999rem; } .skip:focus { left: 1rem; background: #fff; padding: .4rem; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
code { overflow-wrap: anywhere; }
@page { margin: 15mm; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav, .skip { display: none; }
  .screen { display: block; } figure, tr, .verdict, .warning { break-inside: avoid; } h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; display: block; }
  .scroll, .picture { overflow: visible; } .picture img { min-width: 0; } table { font-size: 7.5pt; }
  figure img { max-height: 220mm; object-fit: contain; } }
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<a class="skip" href="#main">Skip to the verdict</a>
<header>
<h1>$title</h1>
<p class="soft">$subtitle</p>
</header>
<main id="main">
$body
</main>
</body>
</html>
""")

MOST_CSV_BYTES = 24_000  # of a table that is kept inside the page


@dataclass(frozen=True)
class Shown:
    """What is left of a figure once it is written: its words, its PNG, and its tables by file name.

    A table is None where it is too large to be kept inside the page.
    """

    name: str
    title: str
    caption: str
    details: str
    alt: str
    image: bytes
    tables: dict[str, bytes | None]


@dataclass(frozen=True)
class Section:
    """A part of the page that unfolds, with an entry in its table of contents; none where `html` is empty."""

    anchor: str
    short: str
    title: str
    html: str


def page(title: str, subtitle: str, first_screen: str, sections: Sequence[Section]) -> str:
    """The whole document: the first screen, the table of contents, the folded sections."""
    shown = [item for item in sections if item.html]
    entries = "".join(f'<li><a href="#{item.anchor}">{escape(item.short)}</a></li>' for item in shown)
    contents = f'<nav aria-label="Contents"><ul>{entries}</ul></nav>'
    # The anchor lies inside of what is folded: following a link to it unfolds it.
    parts = [
        f"<section><details><summary><h2>{escape(item.title)}</h2></summary>\n"
        f'<div id="{item.anchor}">{item.html}</div></details></section>'
        for item in shown
    ]
    body = _minus_signs("\n".join([first_screen, contents, *parts]))
    return PAGE.substitute(title=escape(title), subtitle=escape(subtitle), style=STYLE, body=body)


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
    links = ", ".join(_link(name, content) for name, content in shown.tables.items())
    command = f"<p>Drawn again by <code>{escape(source.command(shown.name))}</code></p>"
    more = f"{paragraph(shown.details) if shown.details else ''}<p>Data: {links}.</p>{command}"
    return (
        f'<figure><div class="picture" role="region" tabindex="0" aria-label="{escape(shown.title)}">'
        f'<img src="data:image/png;base64,{b64encode(shown.image).decode("ascii")}" alt="{escape(shown.alt)}"></div>\n'
        f"<figcaption>{paragraph(shown.caption + warning)}{folded('Details, data and source', more)}</figcaption>"
        "</figure>"
    )


def figures(shown: Sequence[Shown], group: str, source: Source, warning: str = "") -> str:
    """All figures of a group, each under its title where they are several."""
    of_group = [item for item in shown if group_of(item.name) == group]
    heads = [f"<h3>{escape(item.title)}</h3>" if len(of_group) > 1 else "" for item in of_group]
    return "".join(head + figure(item, source, warning) for head, item in zip(heads, of_group, strict=True))


def _link(name: str, content: bytes | None) -> str:
    """A table inside the page where it is small, else the file beside it."""
    if content is not None:
        target = f"data:text/csv;base64,{b64encode(content).decode('ascii')}"
        return f'<a download="{escape(name)}" href="{target}">{escape(name)}</a>'
    return f'<a href="figures/{escape(name)}">{escape(name)}</a> (beside this page)'


def _minus_signs(html: str) -> str:
    """Minus signs instead of hyphens before numbers and between names, in text alone, never inside a tag."""
    pieces = re.split(r"(<[^>]*>)", html)
    return "".join(
        piece if piece.startswith("<") else re.sub(r"(?<![\w.-])-(?=[\d \u00a0])", "\N{MINUS SIGN}", piece)
        for piece in pieces
    )
