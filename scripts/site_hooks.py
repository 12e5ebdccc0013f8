"""Bring what lies beside docs/ into the site: boards, sources that pages link, and the notebook.

MkDocs calls the functions whose names begin with ``on_``. Pages link files of the checkout by
relative paths, which work wherever the checkout is read. Here each such file gets a place in the
site, and the link is turned to it: a board's folder is copied as it is, a source becomes a page of
its own, and a table in Markdown is read as the page in HTML beside it.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import File, Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
BOARDS = "leaderboards"
_LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")
_DIAGRAM = re.compile(r'<img alt="[^"]*" src="([\w./]+\.svg)" ?/?>')
_SHIM = re.compile(r'<script src="https://unpkg\.com/iframe-worker/shim"></script>')
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".toml": "toml", ".sh": "bash"}
_SOURCES = "sources/"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add boards, linked sources and the notebook to what the site is made of."""
    from mkdocs.structure.files import File

    for path in sorted((ROOT / BOARDS).rglob("*")):
        if path.is_file() and path.suffix not in (".md", ".yaml"):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for name in sorted({name for file in files.documentation_pages() for name in _linked(file)}):
        path = ROOT / name
        if name.startswith(BOARDS) and path.name == "README.md":
            files.append(File.generated(config, name, content=path.read_text(encoding="utf-8")))
        elif not name.startswith(BOARDS):
            content = _listing(path) if path.is_dir() else _source(path)
            files.append(File.generated(config, f"{_SOURCES}{name}.md", content=content))
    notebook = (ROOT / "docs" / "boards.ipynb").read_text(encoding="utf-8")
    files.append(File.generated(config, "boards.md", content="".join(_cells(notebook))))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links out of docs/ to where their targets are in the site."""
    uri = page.file.src_uri
    if uri.startswith(_SOURCES):
        return markdown
    return _LINK.sub(lambda found: _turned(found, uri), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put diagrams into the page, so that they follow its light or dark."""

    def inline(found: re.Match[str]) -> str:
        path = ROOT / "docs" / posixpath.join(posixpath.dirname(page.file.src_uri), found[1])
        if 'class="flow"' not in _head(path):
            return found[0]
        return f'<span class="flow-frame">{path.read_text(encoding="utf-8")}</span>'

    return _DIAGRAM.sub(inline, html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Let the search work from the disk without asking the network for its help."""
    script = (ROOT / "scripts" / "frame_worker.js").read_text(encoding="utf-8")
    return _SHIM.sub(lambda _: f"<script>{script}</script>", output)


def on_post_build(config: MkDocsConfig) -> None:
    """Let the boards' pages lead to the site's own, and leave out what only a server would show."""
    Path(config.site_dir, "404.html").unlink(missing_ok=True)
    for path in sorted((ROOT / BOARDS).rglob("*.md")):  # as downloads: MkDocs would render them
        shutil.copyfile(path, Path(config.site_dir, path.relative_to(ROOT)))
    for path in Path(config.site_dir, BOARDS).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        turned = re.sub(r'(href="(?:\.\./)+)docs/(\w+)\.md', r"\1\2.html", text)
        if turned != text:
            path.write_text(turned, encoding="utf-8")


def _head(path: Path) -> str:
    return path.read_text(encoding="utf-8")[:200] if path.is_file() else ""


def _home(uri: str) -> str:
    """Return the folder of a page in the checkout."""
    return posixpath.dirname(uri if uri.startswith(BOARDS) else f"docs/{uri}")


def _outside(link: str, uri: str) -> str | None:
    """Return the file or folder of the checkout that a page's link means, if it is no page."""
    if re.match(r"[a-z]+:|/", link):
        return None
    name = posixpath.normpath(posixpath.join(_home(uri), link))
    page = name.startswith("docs/") and not name.endswith(".yaml")
    return None if page or name.startswith("..") or not (ROOT / name).exists() else name


def _linked(file: File) -> Iterator[str]:
    """Yield what a page links outside docs/."""
    for found in _LINK.finditer(file.content_string):
        if (name := _outside(found[2], file.src_uri)) is not None:
            yield name


def _turned(found: re.Match[str], uri: str) -> str:
    begin, link, anchor, end = found.groups()
    name = _outside(link, uri)
    if name is None:
        own = posixpath.normpath(posixpath.join(_home(uri), link))
        if own == "docs/boards.ipynb" and uri != "boards.md":
            name, anchor = "boards.md", ""
        elif uri.startswith(BOARDS) and own.startswith("docs/"):
            name = own.removeprefix("docs/")
        else:
            return found[0]
    elif name.startswith(BOARDS):
        name, anchor = _in_boards(name), "" if name.endswith("table.md") else anchor
    else:
        name = f"{_SOURCES}{name}.md"
    return f"{begin}{posixpath.relpath(name, posixpath.dirname(uri) or '.')}{anchor or ''}{end}"


def _in_boards(name: str) -> str:
    """Return where a board's file, or what is written in Markdown, is to be read."""
    if name.endswith("README.md"):
        return name
    if name.endswith("/table.md"):
        return name.removesuffix("table.md") + "index.html"
    if (ROOT / name).is_dir():  # of records, or a board's own
        return "/".join([*name.split("/")[:2], "index.html"])
    return f"{name.removesuffix('.md')}.html" if name.endswith(".md") else name


def _source(path: Path) -> str:
    """Return a file of the checkout as a page."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    language = _LANGUAGES.get(path.suffix, "text")
    return f"---\nsearch: {{exclude: true}}\n---\n\n# {name}\n\n````{language}\n{text}````\n"


def _listing(path: Path) -> str:
    """Return what a folder of the checkout holds as a page."""
    name = path.relative_to(ROOT).as_posix()
    entries = sorted(each.name for each in path.iterdir() if not each.name.startswith((".", "__")))
    return f"# {name}\n\n" + "\n".join(f"- `{each}`" for each in entries) + "\n"


def _cells(notebook: str) -> Iterator[str]:
    """Yield the cells of a notebook, executed as it was committed, as Markdown."""
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield f"{text}\n\n"
            continue
        yield f"```python\n{text}\n```\n\n"
        for output in cell["outputs"]:
            yield from _output(output)


def _output(output: dict[str, Any]) -> Iterator[str]:
    data = output.get("data", {})
    text = "".join(output.get("text", data.get("text/plain", "")))
    if "image/svg+xml" in data:
        picture = "".join(data["image/svg+xml"])
        yield f"<div>{picture[picture.index('<svg') :]}</div>\n\n"
    elif "image/png" in data:
        yield f'<img alt="" src="data:image/png;base64,{data["image/png"].strip()}">\n\n'
    elif "text/html" in data:
        # One line, without a style of its own: a blank line would end the HTML.
        style = r'<style.*?</style>| border="1" class="dataframe"'
        table = re.sub(style, "", "".join(data["text/html"]), flags=re.DOTALL)
        yield f"{' '.join(table.split())}\n\n"
    elif text:
        yield f"<pre><code>{escape(text)}</code></pre>\n\n"
