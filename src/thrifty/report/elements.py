"""The HTML elements of a report: tables, figures, sections and the page around them.

Every text that comes from a run passes through `text`, so nothing in a run's files can become
markup. A page refers to nothing outside itself: its style is below, its figures are inline SVG.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from thrifty.report.figures import inline_svg

COLOURS = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1f2328;--muted:#656d76;--grid:#d7dce1;
--card:#f6f8fa;--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#cc79a7;--c4:#e69f00;--c5:#56b4e9;
--font:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media(prefers-color-scheme:dark){:root{--paper:#14171a;--ink:#e4e7ea;--muted:#9aa3ad;
--grid:#343b43;--card:#1d2227;--c0:#3f9ce0;--c1:#f0824a;--c2:#2cc295;--c3:#e39bc4;--c4:#f2b632;
--c5:#a4dcff}}
"""
STYLE = (
    COLOURS
    + """*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 var(--font);
-webkit-text-size-adjust:100%}
main{max-width:1080px;margin:0 auto;padding:20px 16px 48px}
h1{font-size:1.55rem;line-height:1.25;margin:.2em 0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.2em 0 .6em;padding-bottom:.25em;border-bottom:1px solid var(--grid)}
p{margin:.4em 0;max-width:75ch}
.note,.caption{color:var(--muted);font-size:.9em}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(210px,45%),1fr));gap:10px;
margin:1.1em 0}
.card{background:var(--card);border-radius:8px;padding:10px 13px}
.card b{display:block;white-space:nowrap;font-size:1.4rem;line-height:1.25;font-weight:600}
.card span{display:block;color:var(--muted);font-size:.85em}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));
gap:14px 28px;align-items:start}
figure{margin:.4em 0;min-width:0;max-width:640px}
figcaption{font-weight:600;font-size:.95em;margin-bottom:.25em}
svg{display:block;width:100%;height:auto;overflow:visible}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.92em;font-variant-numeric:tabular-nums}
th,td{padding:4px 14px 4px 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--grid)}
th{font-weight:600;color:var(--muted);vertical-align:bottom;line-height:1.25}
td.n{white-space:nowrap}td.n,th.n{text-align:right}
@media(min-width:600px){td.t{white-space:nowrap}}
tr:last-child td{border-bottom:0}
td.k{color:var(--muted);white-space:nowrap}
td.v{font-family:var(--mono);font-size:.9em;overflow-wrap:anywhere}
pre{background:var(--card);border-radius:8px;padding:10px 13px;overflow-x:auto;
font:13px/1.5 var(--mono);margin:.6em 0}
.keep{white-space:pre-wrap;overflow-wrap:anywhere}
details{margin:.5em 0}summary{cursor:pointer;color:var(--muted)}
"""
)


def text(value: object) -> str:
    """Any value as text that cannot become markup."""
    return html.escape(str(value), quote=True)


@dataclass(frozen=True)
class Column:
    """A column's heading, and whether it holds numbers (right-aligned)."""

    heading: str
    numeric: bool = True


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> str:
    """A table that scrolls sideways where it is wider than the screen.

    Args:
        columns: headings, in order.
        rows: as many cells each, escaped here.
    """
    kinds = ["n" if column.numeric else "t" for column in columns]
    head = "".join(
        f'<th class="{kind}" scope="col">{text(column.heading)}</th>'
        for kind, column in zip(kinds, columns, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}">{text(cell)}</td>' for kind, cell in zip(kinds, row, strict=True)
        )
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def pairs(rows: Iterable[tuple[str, object]]) -> str:
    """Names and values, one line each."""
    body = "".join(
        f'<tr><td class="k">{text(name)}</td><td class="v">{text(value)}</td></tr>\n'
        for name, value in rows
    )
    return f'<div class="scroll"><table><tbody>\n{body}</tbody></table></div>'


def cards(rows: Iterable[tuple[str, str, str]]) -> str:
    """Headline numbers: name, value, and what to read it against; lists may break at a comma."""
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><span>{text(name)}</span>'
            f"<b>{text(value).replace(', ', ', <wbr>')}</b><span>{text(remark)}</span></div>"
            for name, value, remark in rows
        )
        + "</div>"
    )


def picture(figure: Figure | None, name: str, caption: str) -> str:
    """A figure with its caption; without a figure, nothing.

    Args:
        figure: what is drawn.
        name: unique on the page.
        caption: what the figure shows.
    """
    if figure is None:
        return ""
    svg = inline_svg(figure, name, caption)
    return f"<figure><figcaption>{text(caption)}</figcaption>{svg}</figure>"


def pictures(figures: Iterable[str]) -> str:
    """Figures beside each other where there is room; nothing where there are none."""
    shown = "\n".join(figure for figure in figures if figure)
    return f'<div class="figures">{shown}</div>' if shown else ""


def strip(svg: str) -> str:
    """A wide picture over the whole width; it scrolls sideways where the screen is narrower."""
    return f'<div class="scroll">{svg}</div>'


def note(remark: str) -> str:
    """A remark in small print."""
    return f'<p class="note">{text(remark)}</p>'


def code(command: str) -> str:
    """A command line, as it is to be typed."""
    return f'<pre class="keep"><code>{text(command)}</code></pre>'


def folded(summary: str, content: str, *, opened: bool = False) -> str:
    """Content that can be folded away."""
    return (
        f"<details{' open' if opened else ''}><summary>{text(summary)}</summary>{content}</details>"
    )


def section(heading: str, *content: str) -> str:
    """A headed section of finished HTML; nothing where there is none."""
    inside = "\n".join(part for part in content if part)
    if not inside:
        return ""
    return f"<section><h2>{text(heading)}</h2>\n{inside}</section>"


def document(title: str, subtitle: str, content: Iterable[str]) -> str:
    """A whole page around finished sections."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<header><h1>{text(title)}</h1><p class="note">{text(subtitle)}</p></header>\n'
        + "\n".join(content)
        + "\n</main>\n</body>\n</html>\n"
    )
