"""From a drawn figure to SVG that is safe inside a page, and to PDF; the same bytes each time."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from xml.etree import ElementTree

from matplotlib.figure import Figure as Drawing

from fedbench.report.figures import style

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"(?<=url\(#)[^)]+(?=\))")
_LONG = re.compile(r"-?\d+\.\d{3,}")
_LEVEL = re.compile(r"translate\((\S+) 0\)")
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)


@dataclass(frozen=True)
class Sketch:
    """A figure before it becomes a file.

    Attributes:
        name: The file's stem: lower-case letters, digits and hyphens.
        title: One line.
        caption: What is drawn, what the error bars are, and n.
        drawing: As matplotlib has it.
        timing: Whether it shows seconds, which differ from run to run.
    """

    name: str
    title: str
    caption: str
    drawing: Drawing
    timing: bool = False


def to_svg(sketch: Sketch) -> str:
    """Return a figure as SVG text that can stand inside an HTML page.

    It begins with ``<svg``; ids have the figure's name before them, so that several figures fit in
    one page; nothing in it reaches the page around it; title and caption are there for screen
    readers; text is outlines.
    """
    buffer = io.BytesIO()
    sketch.drawing.savefig(buffer, format="svg", dpi=300, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _strip(root)
    _share(root)
    _rename(root, sketch.name)
    _round(root)
    root.set("role", "img")
    # What matplotlib says in a <style> for *, which would hold for the page around it.
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    for place, (tag, text) in enumerate((("title", sketch.title), ("desc", sketch.caption))):
        child = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{sketch.name}-{tag}"})
        child.text = text
        child.tail = "\n"
        root.insert(place, child)
    root.set("aria-labelledby", f"{sketch.name}-title")
    root.set("aria-describedby", f"{sketch.name}-desc")
    return ElementTree.tostring(root, encoding="unicode").replace(" />", "/>")


def to_pdf(sketch: Sketch) -> bytes:
    """Return a figure as PDF with TrueType fonts, without a date."""
    buffer = io.BytesIO()
    with style.context():
        sketch.drawing.savefig(
            buffer,
            format="pdf",
            dpi=300,
            metadata={"CreationDate": None, "Title": sketch.title, "Creator": "fedbench"},
        )
    return buffer.getvalue()


def _strip(root: ElementTree.Element) -> None:
    """Take out metadata, the style sheet, groups that are empty or say nothing, and indentation."""
    for element in reversed(list(root.iter())):
        element.text = element.text and element.text.strip()
        element.tail = "\n"
        for child in list(element):
            tag = child.tag.removeprefix(f"{{{_SVG}}}")
            if tag in ("metadata", "style") or (tag in ("g", "defs") and not len(child)):
                element.remove(child)
            elif tag == "g" and not child.attrib.keys() - {"id"}:
                place = list(element).index(child)
                element[place : place + 1] = list(child)


def _share(root: ElementTree.Element) -> None:
    """Write what is drawn several times, such as a number in cells, once."""
    seen: dict[bytes, tuple[ElementTree.Element, str]] = {}
    use, group = f"{{{_SVG}}}use", f"{{{_SVG}}}g"
    for element in list(root.iter(group)):
        if len(element) < 2 or any(child.tag != use for child in element):
            continue
        drawn = b"".join(map(ElementTree.tostring, element))
        first, name = seen.setdefault(drawn, (element, f"shared{len(seen)}"))
        if first is element:
            continue
        if first[0].tag == use:
            inner = ElementTree.Element(group, {"id": name})
            inner.extend(list(first))
            first[:] = [inner]
        element[:] = [ElementTree.Element(use, {f"{{{_XLINK}}}href": f"#{name}"})]


def _rename(root: ElementTree.Element, name: str) -> None:
    """Number ids that are referred to after the figure's name, and drop the others."""
    used: dict[str, str] = {}
    # Short, since they are written thousands of times, and apart from other figures' of a page.
    stem = "f" + hashlib.sha256(name.encode()).hexdigest()[:6]

    def rename(old: str) -> str:
        return used.setdefault(old, f"{stem}-{len(used)}")

    for element in root.iter():
        for key, value in element.attrib.items():
            if key == f"{{{_XLINK}}}href" and value.startswith("#"):
                element.set(key, f"#{rename(value[1:])}")
            elif "url(#" in value:
                element.set(key, _REFERENCE.sub(lambda match: rename(match[0]), value))
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", used[own])


def _round(root: ElementTree.Element) -> None:
    """Write coordinates, in points, with two decimals: less to load, and no noise of machines.

    For less to load as well, styles have no spaces, and a letter's place is a number.
    """
    for element in root.iter():
        place = _LEVEL.fullmatch(element.get("transform", ""))
        if place and element.tag == f"{{{_SVG}}}use" and not {"x", "y"} & element.attrib.keys():
            del element.attrib["transform"]
            element.set("x", place[1])
        if looks := element.get("style"):
            element.set("style", looks.replace(": ", ":").replace("; ", ";"))
        for key in ("d", "x", "y", "transform"):
            value = element.get(key)
            if value is not None and "scale(0.0156" not in value:  # that is a glyph's, not a place
                short = _LONG.sub(lambda match: f"{float(match[0]):.2f}", value)
                element.set(key, " ".join(short.split()))
