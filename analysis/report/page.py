"""The report's page: one HTML file that needs no network, reads well on paper and on a phone."""

import re
from base64 import b64encode
from dataclasses import dataclass
from html import escape
from string import Template

from analysis.records.provenance import Source

STYLE = """
:root { --ink: #1c1c1c; --soft: #5c5c5c; --line: #dcdcdc; --accent: #0b5c8f; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.2rem 4rem; max-width: 62rem; color: var(--ink); background: #fff;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .2rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; overflow-wrap: anywhere; }
.soft, figcaption, .soft p { color: var(--soft); font-size: .875rem; }
.verdict { border-left: 4px solid var(--accent); background: #f3f7fa; padding: .8rem 1rem; margin: 1rem 0; }
.verdict p { margin: 0; max-width: none; } .verdict p + p { margin-top: .6rem; font-size: .9rem; color: var(--soft); }
.warning { border-left: 4px solid #d55e00; background: #fdf4ee; padding: .6rem 1rem; margin: 1rem 0; }
.question { font-size: 1.05rem; font-weight: 600; margin: .6rem 0 0; }
.verdict ul, .warning ul { margin: 0; padding-left: 1.1rem; }
nav ul { list-style: none; padding: 0; margin: .8rem 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem;
  font-size: .9rem; }
a { color: var(--accent); }
figure { margin: 1.2rem 0; } figure img { width: 100%; height: auto; max-width: 58rem; }
.picture { overflow-x: auto; } .picture img { min-width: 36rem; }
figcaption { max-width: 54rem; } figcaption p { margin: .4rem 0; max-width: none; }
details { margin: .3rem 0; } summary { cursor: pointer; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: .35rem .7rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; } thead th { border-bottom: 1.5px solid #888; }
td.number, th.number { text-align: right; white-space: nowrap; padding-left: .5rem; } th.number { white-space: normal; }
.skip { position: absolute; left: -999rem; } .skip:focus { left: 1rem; background: #fff; padding: .4rem; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
caption { text-align: left; padding: .2rem 0; color: var(--soft); }
code { overflow-wrap: anywhere; }
@page { margin: 15mm; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav, .skip { display: none; }
  figure, tr, .verdict, .warning { break-inside: avoid; } h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; display: block; }
  .scroll, .picture { overflow: visible; } .picture img { min-width: 0; }
  table { font-size: 7.5pt; }
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
$contents
<main id="main">
$body
</main>
</body>
</html>
""")


MOST_CSV_BYTES = 24_000  # of a table that is kept inside the page


@dataclass(frozen=True)
class Shown:
    """What is left of a chart once it is written: its words, its PNG, and its tables by file name.

    A table is None where it is too large to be kept inside the page.
    """

    name: str
    title: str
    caption: str
    alt: str
    image: bytes
    tables: dict[str, bytes | None]


@dataclass(frozen=True)
class Section:
    """A part of the page with an entry in its table of contents."""

    anchor: str
    short: str
    title: str
    html: str


def page(title: str, subtitle: str, first_screen: str, sections: list[Section]) -> str:
    """The whole document: the first screen, the table of contents, the sections."""
    entries = "".join(f'<li><a href="#{item.anchor}">{escape(item.short)}</a></li>' for item in sections)
    contents = f'<nav aria-label="Contents"><ul>{entries}</ul></nav>'
    parts = [
        f'<section id="{item.anchor}" aria-labelledby="{item.anchor}-title">\n<h2 id="{item.anchor}-title">'
        f"{escape(item.title)}</h2>\n{item.html}\n</section>"
        for item in sections
    ]
    body = _minus_signs("\n".join([first_screen, *parts]))
    head = {"title": escape(title), "subtitle": escape(subtitle), "style": STYLE, "contents": contents}
    return PAGE.substitute(head, body=body)


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def box(kind: str, html: str) -> str:
    """A box that stands out: `verdict` or `warning`."""
    return f'<div class="{kind}">{html}</div>'


def bullets(texts: list[str]) -> str:
    """A list of plain texts."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def figure(shown: Shown, source: Source, warning: str = "") -> str:
    """An image inside the page with its text for those who do not see it, its caption, its data and its source."""
    data = b64encode(shown.image).decode("ascii")
    links = ", ".join(_link(name, content) for name, content in shown.tables.items())
    origin = f"{source.commits}; {source.claims}"
    return (
        f'<figure><div class="picture" role="region" tabindex="0" aria-label="{escape(shown.title)}">'
        f'<img src="data:image/png;base64,{data}" alt="{escape(shown.alt or shown.title)}"></div>\n'
        f"<figcaption>{paragraph(shown.caption + warning)}<p>Data: {links}.</p>"
        f"<details><summary>Made from {len(source.runs)} runs</summary><p>{escape(origin)}.</p>"
        f"<p>Drawn again by <code>{escape(source.command(shown.name))}</code></p>"
        f"<p>{escape(', '.join(source.runs))}</p></details></figcaption></figure>"
    )


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
