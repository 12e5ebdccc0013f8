"""The pages of docs/ build into a site that is whole, and that asks no network."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


class Links(HTMLParser):
    """What a page links and loads, and the places in it that can be linked."""

    def __init__(self):
        super().__init__()
        self.links, self.places = [], set()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.places |= {found.get("id"), found.get("name") if tag == "a" else None}
        self.links += [(tag, found[name]) for name in ("href", "src") if found.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    found = {}
    for path in site.rglob("*.html"):
        found[path] = Links()
        found[path].feed(path.read_text())
    return found


def test_no_link_of_the_site_is_dead(site, pages):
    dead = []
    for path, page in pages.items():
        for _, link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.is_file() or (
                place and target in pages and place not in pages[target].places
            ):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 80
    assert dead == []


def test_the_site_loads_nothing_from_a_network(site, pages):
    loads = [
        f"{path.relative_to(site)}: {link}"
        for path, page in pages.items()
        for tag, link in page.links
        if tag not in ("a", "area") and urlsplit(link).scheme in ("http", "https")
    ]
    assert loads == []
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.search(r"url\(.?(https?:)?//|@import .?https?:", styles)


def test_every_page_of_the_docs_is_in_the_navigation(site):
    text = (site / "index.html").read_text()
    for path in DOCS.rglob("*.md"):
        link = path.relative_to(DOCS).with_suffix(".html").as_posix()
        assert f'href="{link}"' in text, f"{link} is missing in mkdocs.yml"


def test_lists_and_tables_are_not_shown_as_text(pages):
    for path in pages:
        if "leaderboards" not in path.parts:
            text = re.sub(r"<(pre|script|svg).*?</\1>", "", path.read_text(), flags=re.DOTALL)
            assert not re.search(r"<p>[^<]*\n(- |\d+\. |\| )", text), path


def test_boards_examples_and_the_notebook_are_read_in_the_site(site):
    assert "fedcgs" in (site / "leaderboards" / "digits" / "index.html").read_text()
    assert "<table" in (site / "boards.html").read_text()
    assert "median" in (site / "sources" / "examples" / "own_method.py.html").read_text()
    assert 'class="flow"' in (site / "methods" / "feddf.html").read_text()
    searched = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    assert any(entry["location"].startswith("methods/collabdm.html") for entry in searched)


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=str)
def test_links_lead_to_files_of_the_checkout(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / link).exists() or link == "boards.md", link
