"""The page's text: escaped, stable, without seconds outside their block, nothing from outside."""

import base64
import csv
import hashlib
import io
import json
import random
import re
from html.parser import HTMLParser
from importlib import resources

import pytest
from page_board import FORMULA, HOSTILE, board, comparisons, figures, record, records

from fedbench.bench.suites.planfile import Plan
from fedbench.report import page as module
from fedbench.report import tables
from fedbench.report.board import Board
from fedbench.report.figures import Figure
from fedbench.report.frame import rows
from fedbench.report.page import lines, page


class Tags(HTMLParser):
    """Every tag with its attributes, and the text of scripts by id."""

    def __init__(self):
        super().__init__()
        self.tags, self.scripts, self._script = [], {}, None

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("id", "code")

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


def render(good=None, second=1.0):
    made = board(good or records(second))
    return page(made, figures(second), comparisons(made), records="../records/", named="toy")


def parse(html):
    tags = Tags()
    tags.feed(html)
    return tags


@pytest.fixture(scope="module")
def html():
    return render()


@pytest.fixture(scope="module")
def tags(html):
    return parse(html)


def without_times(html):
    found, count = re.subn(r'<script type="application/json" id="times">.*?</script>', "", html)
    assert count == 1
    return found


def test_names_are_escaped_wherever_they_stand(html, tags):
    assert "alert(" in html
    assert "<script>alert" not in html
    assert "</script> &" not in html
    assert "\u2028" not in tags.scripts["data"]
    assert [name for name, _ in tags.tags].count("script") == 3
    assert {name for name, _ in tags.tags}.isdisjoint({"b", "i"})
    assert not any(key.startswith("on") for _, attrs in tags.tags for key in attrs)


def test_names_come_back_from_the_data_block(tags):
    data = json.loads(tags.scripts["data"])
    assert HOSTILE in data["labels"]
    assert f"{FORMULA} (-1+1)" in data["labels"]


def test_same_bytes_for_shuffled_records(html):
    shuffled = records()
    random.Random(3).shuffle(shuffled)
    assert shuffled != records()
    assert render(shuffled) == html


def test_seconds_stand_in_one_block_only(html):
    slow = render(second=7.5)
    assert slow != html
    assert without_times(slow) == without_times(html)
    assert "17.25" not in without_times(html)


def test_no_figure_of_seconds_is_laid_out_by_its_width(tags):
    narrow = [a["id"] for tag, a in tags.tags if tag == "figure" and a.get("class") == "narrow"]
    assert narrow == ["figure-bytes-toy"]


def test_nothing_is_loaded_from_outside(html, tags):
    allowed = {"xmlns", "content"}
    for tag, attrs in tags.tags:
        for key, value in attrs.items():
            if value and "//" in value and key not in allowed:
                raise AssertionError(f"<{tag} {key}={value!r}>")
        assert tag not in ("img", "iframe", "object", "embed", "base")
        assert tag != "link" or attrs["href"] == "data:,"
        assert tag != "script" or "src" not in attrs
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_this_script_and_nothing_from_outside(tags):
    policy = next(a["content"] for _, a in tags.tags if "http-equiv" in a)
    digest = base64.b64encode(hashlib.sha256(tags.scripts["code"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_data_are_those_of_the_files(tags):
    data = json.loads(tags.scripts["data"])
    table = list(csv.reader(io.StringIO(tables.to_csv(board(records()).views))))
    bare = [[text.removeprefix("'") for text in row] for row in table]  # quoted when downloaded
    rows, runs = unpacked(data["rows"]), unpacked(data["runs"])
    assert [data["columns"], *rows] == bare
    assert len(runs) == len(records())
    ids = data["columns"].index("record_ids")
    for number, cell_id, *_ in runs:
        assert cell_id in rows[number][ids].split()


def unpacked(table):
    """Return the lines of a table as the page's script reads them."""
    return [
        [values[place] for values, place in zip(table["values"], row, strict=True)]
        for row in table["rows"]
    ]


def test_letters_stand_once_in_a_page():
    letter = '<path d="M 1 2" transform="scale(0.015625)" id="{}-0" />'
    svg = '<svg><defs>{}</defs><use xlink:href="#{}-0" /><use xlink:href="#{}-1" /></svg>'
    found = [
        Figure(name, name, "", svg.format(letter.format(name), name, name), False, None)
        for name in ("f1", "f2")
    ]
    letters, drawn = module._lettered(found)
    assert letters.count("M 1 2") == 1
    assert (
        drawn["f1"] == '<svg><defs></defs><use xlink:href="#l0" /><use xlink:href="#f1-1" /></svg>'
    )
    assert (
        drawn["f2"] == '<svg><defs></defs><use xlink:href="#l0" /><use xlink:href="#f2-1" /></svg>'
    )


def test_letters_of_seconds_alone_stay_with_their_figure():
    """Or what a page defines for all would depend on how fast a machine was."""
    letter = '<path d="M {} 2" transform="scale(0.015625)" id="{}" />'
    use = '<use xlink:href="#{}" />'
    plain = Figure("f1", "f1", "", letter.format(1, "f1-a") + use.format("f1-a"), False, None)
    timed = "".join(letter.format(*each) for each in ((1, "f2-a"), (7, "f2-b")))
    timed += use.format("f2-a") + use.format("f2-b")
    times = Figure("f2", "f2", "", timed, True, None)
    letters, drawn = module._lettered([times, plain])
    assert letters == module._lettered([plain])[0]
    assert drawn["f2"] == letter.format(7, "f2-b") + use.format("l0") + use.format("f2-b")


def test_an_opened_row_explains_itself():
    method = {"name": "feddf", "preset": "reference", "rounds": 1, "steps": 10_000}
    made = record("dense", 0.1, None, 0)
    made = made.model_copy(update={"settings": {**made.settings, "method": method}})
    html = render([*records(), made])
    assert "feddf (reference*)" in html.replace("<wbr>", "")
    assert 'title="differs from the preset: rounds=1 (100)"' in html
    assert "rounds=1 <em>(preset: 100)</em>" in html
    assert "steps=10000</span>" in html
    assert "https://arxiv.org/abs/2006.07242" in html
    assert "A client sends" in html
    assert "<dt>Commit</dt>" in html


def test_terms_are_explained_where_they_stand(html):
    assert "K</abbr>=5" in html
    assert '<abbr title="Smallest number of images' in html
    assert "What the words mean" in html


def test_the_page_says_how_to_make_it_again(html):
    assert "<code>fedbench report toy</code>" in html


def test_every_record_of_a_row_is_linked(tags):
    links = {attrs["href"] for tag, attrs in tags.tags if tag == "a" and "href" in attrs}
    assert {f"../records/{one.cell_id}.json" for one in records()} <= links
    assert lines.record_link("a/../b#", "records/") == "records/a%2F..%2Fb%23.json"


def test_blocks_are_those_of_the_markdown_table():
    found = lines.blocks_of(board(records()).views, "")
    markdown = tables.to_markdown(board(records()).views)
    titles = [block.title for block in found]
    assert len(titles) == 4
    assert all(f"### {tables.escape_markdown(title)}\n" in markdown for title in titles)
    small, large = found[0], found[1]
    assert (small.budget, large.budget) == ("2560 total", "25600 total")
    assert [line.row.values["method"] for line in small.contenders] == ["dense", HOSTILE]
    assert [line.mark.place for line in small.contenders] == [1, 2]
    assert [line.row.values["method"] for line in small.controls] == ["centralised", "fedavg"]
    numbers = [line.number for line in small.controls]
    assert numbers == [line.number for line in large.controls]  # the same rows, in both budgets


def test_settings_that_do_not_vary_are_left_out_of_flat_rows():
    found = lines.blocks_of(board(records()).views, "")
    line = found[0].contenders[0]
    assert line.where == "β=0.1 · 2,560 px total"
    assert found[0].controls[0].where == "β=0.1"


def test_points_lie_on_the_axis_in_order():
    made = board(records())
    assert lines.scale(made.views) == (30.0, 100.0)
    drawn = [line for block in lines.blocks_of(made.views, "") for line in block.contenders]
    for line in drawn:
        points = line.points
        assert lines.EDGE <= points.low < points.mean < points.high <= lines.WIDE - lines.EDGE
        assert len(points.seeds) == 2
    best = max(drawn, key=lambda line: float(line.mean))
    assert best.points.mean == max(line.points.mean for line in drawn)


@pytest.mark.parametrize(("value", "axis"), [(1.0, (90.0, 100.0)), (0.0, (0.0, 10.0))])
def test_axis_of_equal_accuracies_has_a_length(value, axis):
    good = [one.model_copy(update={"metrics": {"accuracy": value}}) for one in records()]
    made = rows(good)
    assert lines.scale(made) == axis
    ends = {line.points.mean for block in lines.blocks_of(made, "") for line in block.contenders}
    assert ends == {lines.EDGE if value == 0 else lines.WIDE - lines.EDGE}


def test_only_settings_of_several_values_can_be_filtered():
    found = {one.name: one.options for one in lines.filters(board(records()).views)}
    assert list(found) == ["beta", "budget", "method", "kind"]
    assert found["beta"] == [("0.1", "0.1"), ("0.5", "0.5")]
    assert found["budget"] == [("2560 total", "2,560 px total"), ("25600 total", "25,600 px total")]


def test_head_says_what_was_done(html):
    for text in (
        "24 of 27 done, 1 failed, 1 skipped, 1 missing",
        "digits (1,437 training, 360 test images)",
        "dirichlet_capped β=0.1, 0.5 min_size=10",
        "recipe.epochs=5",
        "at the last step on the whole test set",
        "fedbench report toy",
    ):
        assert text in html


def test_cells_without_a_result_have_a_reason_and_a_link(html):
    assert "NaN in &lt;b&gt;epoch" in html
    assert '<a href="../records/2-01-1-7.json">7</a>' in html
    assert "needs &lt;i&gt;BatchNorm" in html
    assert "not computed yet" in html
    assert "skipped-cell" not in html
    assert "too dear" in html


def test_published_numbers_stand_beside_ours(html):
    made = board(records())
    gap = comparisons(made)[0].difference
    assert f'<td class="number">{100 * gap:+.2f}</td>' in html
    assert "80.00 ± 1.00" in html
    assert "best on test" in html
    assert "1 published number that nothing here can stand beside" in html


def test_a_board_without_results_is_a_page_too():
    entries = board(records()).plan.cells
    empty = Board.of(Plan("toy", "", "quick", entries), ())
    html = page(empty, [], [], records="records/", named="toy")
    assert "No cell has a result yet." in html
    assert "0 of 27 done, 1 skipped, 26 missing" in html
    assert 'id="figures"' not in html


def test_colours_contrast_enough_to_read():
    style = resources.files("fedbench.report.page").joinpath("style.css").read_text()
    pairs = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", style))
    for theme in (0, 1):
        colour = {name: _luminance(pair.split(", ")[theme]) for name, pair in pairs.items()}
        for ink in ("ink", "soft", "accent", "bad"):
            for ground in ("paper", "raised"):
                high, low = sorted((colour[ink], colour[ground]), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground, theme)  # WCAG 2.2, AA


def _luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
