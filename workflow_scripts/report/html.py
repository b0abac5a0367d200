"""Small pieces of HTML: a page in the report's look, tables, escaping. Nothing is loaded from outside."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from string import Template

_STYLE = """
:root{color-scheme:light dark;--ink:#1f2937;--soft:#6b7280;--line:#e5e7eb;--paper:#fff;--card:#f9fafb;
--good:#047857;--bad:#b45309;--some:#1d4ed8}
@media(prefers-color-scheme:dark){:root{--ink:#e5e7eb;--soft:#9ca3af;--line:#374151;--paper:#111827;
--card:#1f2937;--good:#34d399;--bad:#fbbf24;--some:#93c5fd}}
body{font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:var(--ink);
background:var(--paper);margin:0 auto;padding:2rem 1.25rem 4rem;max-width:62rem}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .5rem}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
p{max-width:46rem}.soft{color:var(--soft)}.claim{font-size:1.1rem}
.badge{display:inline-block;padding:.15rem .7rem;border-radius:1rem;border:1px solid currentColor;
font-weight:600;margin-bottom:.8rem}.yes{color:var(--good)}.no{color:var(--bad)}.partly{color:var(--some)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.92rem;min-width:100%}
th,td{padding:.42rem .8rem .42rem 0;border-bottom:1px solid var(--line);text-align:right;
font-variant-numeric:tabular-nums;white-space:nowrap}
th{color:var(--soft);font-weight:600;vertical-align:bottom;white-space:normal;min-width:4.2rem}
th:first-child,td:first-child,.words td,.words th{text-align:left}
td:first-child{white-space:normal;min-width:11rem}.figures td:first-child{width:24rem}
.words td:first-child{width:19rem;color:var(--soft)}
.words td{white-space:normal;overflow-wrap:anywhere}
small.trials{display:block;color:var(--soft);font-size:.78rem}
pre{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem;
overflow-x:auto;font-size:.85rem}ul{padding-left:1.2rem;max-width:46rem}li{margin:.3rem 0}
figure{margin:1rem 0 2rem}figure svg,figure img{max-width:100%;height:auto;background:#fff;
border:1px solid var(--line);border-radius:.6rem;padding:.9rem;box-sizing:border-box}
@media(max-width:40rem){body{padding-top:1rem}th,td{padding-right:.55rem}td:first-child{min-width:7.5rem}
.figures td:first-child,.words td:first-child{width:auto}figure .scroll img{min-width:34rem}}
figcaption{max-width:46rem;font-size:.92rem;color:var(--soft);margin-top:.4rem}figcaption b{color:var(--ink)}
"""
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<link rel="icon" href="data:,"/>
<title>$title</title>
<style>$style</style>
</head>
<body>
$body
</body>
</html>
""")


class Markup(str):
    """Text that is HTML already: it is not escaped."""


def page(title: str, *parts: str) -> str:
    """Return a whole page of ready pieces of HTML."""
    return _PAGE.substitute(title=escape(title), style=_STYLE, body="\n".join(parts))


def element(tag: str, text: object, of_class: str = "") -> str:
    """Return an element that holds plain text, or what is HTML already."""
    attribute = f' class="{of_class}"' if of_class else ""
    content = text if isinstance(text, Markup) else escape(str(text))
    return f"<{tag}{attribute}>{content}</{tag}>"


def bullets(items: Iterable[str]) -> str:
    """Return a list of plain texts."""
    return "<ul>" + "".join(element("li", item) for item in items) + "</ul>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], of_class: str = "") -> str:
    """Return a table that scrolls where the page is narrow; without a head if no column has a name."""
    names = "".join(element("th", column) for column in columns)
    head = f"<thead><tr>{names}</tr></thead>\n" if names else ""
    body = "".join(f"<tr>{''.join(element('td', cell) for cell in row)}</tr>\n" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table class="{of_class}">{head}'
        f"<tbody>{body}</tbody></table></div>"
    )


def data_uri(kind: str, data: bytes) -> str:
    """Return bytes as an address that a page can hold: "data:image/png;base64,…"."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
