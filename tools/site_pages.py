"""The site's pages that lie outside of `docs/`, and links to files that it does not show: a hook of MkDocs.

README, configuration, CONTRIBUTING and CHANGELOG are read on the code's pages as well, where links go by path
in the checkout. Here those pages get a place on the site, links to them follow, and links to code, which a
site has no page for, become the file's name.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Their place on the site, by path in the checkout.
PAGES = {
    "config/README.md": "reference/configuration.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside."""
    for source, place in PAGES.items():
        if place != "index.md":
            content = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(text: str, page: Page, **_: Any) -> str:
    """Let links of a page lead to the site's pages."""
    place = page.file.src_uri
    by_place = {site: source for source, site in PAGES.items()}
    source = by_place.get(place, f"docs/{place}") if place != "index.md" else "docs/index.md"
    return LINK.sub(lambda link: _link(link[1], link[2], source, place), text)


def _link(words: str, target: str, source: str, place: str) -> str:
    """A link of a page, `source` in the checkout and `place` on the site."""
    path, separator, anchor = target.partition("#")
    if "://" in target or not path:
        return f"[{words}]({target})"
    found = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if found in PAGES:
        goal = PAGES[found]
    elif found.startswith("docs/") and not found.endswith(".py"):
        goal = found.removeprefix("docs/")
    elif (ROOT / found).exists():
        return words if "`" in words else f"`{found}`"
    else:
        # MkDocs says that there is no such page.
        return f"[{words}]({target})"
    return (
        f"[{words}]({posixpath.relpath(goal, posixpath.dirname(place) or '.')}{separator}{anchor})"
    )
