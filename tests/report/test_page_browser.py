"""The page in a real browser: sorting, filtering, linked views, downloads, printing, no network."""

import base64
import csv
import io
import json
import os
import shutil
import time
from urllib.parse import unquote

import pytest
from page_board import FORMULA, HOSTILE, METHODS, board, comparisons, figures, records

from fedbench.report import tables
from fedbench.report.page import page

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (BROWSER and DRIVER) and os.environ.get("CI"):
    raise RuntimeError("the page's tests need Debian's chromium and chromium-driver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs chromium and chromedriver (Debian: chromium-driver)"
)


@pytest.fixture(scope="module")
def made():
    return board(records())


@pytest.fixture(scope="module")
def address(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(page(made, figures(), comparisons(made), records="../records/", named="toy"))
    return path.as_uri()


@pytest.fixture(scope="module")
def driver():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(DRIVER))
    found.set_window_size(1440, 1000)
    yield found
    found.quit()


@pytest.fixture
def view(driver, address):
    """Open the page, or a view of it, anew; a test that leaves errors in the console fails."""

    def load(fragment=""):
        driver.get("about:blank")
        driver.get(f"{address}{fragment}")

    load()
    yield load
    driver.execute_script("localStorage.clear()")
    assert [entry["message"] for entry in driver.get_log("browser")] == []


def find(driver, selector):
    return driver.find_element("css selector", selector)


def shown(driver):
    """Return what stands in rows that can be seen, without daggers: label, accuracy."""
    rows = driver.execute_script(
        "return [...document.querySelectorAll('#board tr.row')].filter((r) => r.checkVisibility())"
        ".map((r) => [r.querySelector('.open span').firstChild.parentNode.textContent,"
        " r.querySelector('.value .mean').textContent])"
    )
    return [(label.removesuffix(" †"), float(mean)) for label, mean in rows]


def sort(driver, key):
    find(driver, f'th[data-key="{key}"] .sort').click()


def choose(driver, name, value):
    driver.execute_script(
        "const f = document.querySelector('#filters').elements[arguments[0]];"
        "f.value = arguments[1];"
        "f.dispatchEvent(new Event('input', {bubbles: true}));",
        name,
        value,
    )


def count(driver):
    return find(driver, "#count").text


def labels_in_order(made):
    return [row.values["label"] for row in made.views]


def test_blocks_come_first(driver, view, made):
    labels = [label for label, _ in shown(driver)]
    assert labels[:4] == ["dense (fedbench)", HOSTILE, "centralised", "fedavg"]
    assert len(labels) == 16  # controls stand in the blocks of both budgets
    assert count(driver) == f"{len(made.views)} of {len(made.views)} rows"
    assert not find(driver, "#reset").is_displayed()


def test_sorting_by_click_goes_round(driver, view):
    sort(driver, "accuracy_mean")
    down = [mean for _, mean in shown(driver)]
    assert down == sorted(down, reverse=True)
    assert len(down) == 12  # each row once
    head = find(driver, 'th[data-key="accuracy_mean"]')
    assert head.get_attribute("aria-sort") == "descending"
    assert "sorted by Accuracy %, descending" in count(driver)
    sort(driver, "accuracy_mean")
    assert [mean for _, mean in shown(driver)] == sorted(down)
    assert head.get_attribute("aria-sort") == "ascending"
    sort(driver, "accuracy_mean")
    assert head.get_attribute("aria-sort") is None
    assert len(shown(driver)) == 16


def test_sorting_by_keyboard(driver, view):
    from selenium.webdriver.common.keys import Keys

    find(driver, 'th[data-key="bytes_total"] .sort').send_keys(Keys.ENTER)
    # As numbers: 1,000 to 10,000,000 bytes, a power of ten a method; as text 10 would follow 1.
    expected = [method for method in METHODS for _ in range(4 if method == "dense" else 2)]
    assert [label.split(" (")[0] for label, _ in shown(driver)] == expected
    find(driver, 'th[data-key="label"] .sort').send_keys(Keys.SPACE)
    labels = [label for label, _ in shown(driver)]
    assert labels == sorted(labels, key=str.lower)


def test_sorting_is_stable_and_leaves_nothing_for_the_end(driver, view, made):
    order = labels_in_order(made)
    sort(driver, "nll_mean")  # all the same
    assert [label for label, _ in shown(driver)] == order
    sort(driver, "nll_mean")
    assert [label for label, _ in shown(driver)] == order
    for _ in range(2):
        sort(driver, "worst_client_mean")  # fedavg has none
        assert [label for label, _ in shown(driver)][-2:] == ["fedavg", "fedavg"]


def test_sorting_by_seconds_and_their_text(driver, view):
    cells = driver.execute_script(
        "return [...document.querySelectorAll('[data-time]')].map((c) => c.textContent)"
    )
    assert set(cells) == {"2.0", "1.0"}
    sort(driver, "client_seconds")
    assert len(shown(driver)) == 12


def test_filters_join_and_reset(driver, view):
    choose(driver, "beta", "0.5")
    assert count(driver) == "6 of 12 rows"
    assert len(shown(driver)) == 8
    choose(driver, "budget", "2560 total")
    assert [label for label, _ in shown(driver)] == [
        "dense (fedbench)",
        HOSTILE,
        "centralised",
        "fedavg",
    ]
    choose(driver, "kind", "controls")
    assert [label for label, _ in shown(driver)] == ["centralised", "fedavg"]
    heads = driver.execute_script(
        "return [...document.querySelectorAll('#board .head')]"
        ".filter((r) => r.checkVisibility()).length"
    )
    assert heads == 1
    find(driver, "#reset").click()
    assert count(driver) == "12 of 12 rows"
    assert unquote(driver.current_url).endswith("#")


def test_search_takes_all_words_in_names_settings_and_ids(driver, view):
    box = find(driver, "#filters [name=search]")
    box.send_keys("DENSE 2-01-10-1")
    assert [label for label, _ in shown(driver)] == ["dense (fedbench)"]
    box.clear()
    box.send_keys("<script>")
    assert {label for label, _ in shown(driver)} == {HOSTILE}
    box.clear()
    box.send_keys("no such thing")
    assert count(driver) == "0 of 12 rows"


def test_a_view_can_be_linked(driver, view):
    choose(driver, "beta", "0.1")
    choose(driver, "method", HOSTILE)
    sort(driver, "accuracy_mean")
    fragment = driver.current_url.partition("#")[2]
    before = shown(driver)
    assert len(before) == 1
    view(f"#{fragment}")
    assert shown(driver) == before
    assert find(driver, "#filters [name=method]").get_attribute("value") == HOSTILE
    assert find(driver, 'th[data-key="accuracy_mean"]').get_attribute("aria-sort") == "descending"
    driver.execute_script("location.hash = '#kind=controls'")
    wait(lambda: count(driver) == "4 of 12 rows")
    driver.execute_script("location.hash = '#figures'")  # a part of the page, no view
    time.sleep(0.1)
    assert count(driver) == "4 of 12 rows"


def test_unknown_values_in_a_link_do_nothing(driver, view):
    view("#beta=77&sort=nothing&direction=sideways&other=%3Cscript%3E")
    assert count(driver) == "12 of 12 rows"


def wait(true, seconds=5):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_script_in_a_name_is_text(driver, view):
    from selenium.common.exceptions import NoAlertPresentException

    with pytest.raises(NoAlertPresentException):
        _ = driver.switch_to.alert
    sort(driver, "label")
    assert HOSTILE in [label for label, _ in shown(driver)]
    options = driver.execute_script(
        "return [...document.querySelectorAll('[name=method] option')].map((o) => o.textContent)"
    )
    assert HOSTILE in options
    assert driver.title.startswith("A toy <script>")


def test_details_open_with_links_to_records(driver, view):
    buttons = driver.find_elements("css selector", "#board .open")
    more = driver.find_elements("css selector", "#board tr.more")
    assert not any(row.is_displayed() for row in more)
    buttons[0].click()
    assert [row.is_displayed() for row in more] == [True] + [False] * (len(more) - 1)
    assert buttons[0].get_attribute("aria-expanded") == "true"
    links = [a.get_attribute("href") for a in more[0].find_elements("css selector", "a")]
    assert [link.rsplit("/", 2)[1:] for link in links] == [
        ["records", "2-01-1-0.json"],
        ["records", "2-01-1-1.json"],
    ]
    buttons[0].click()
    assert not more[0].is_displayed()


@pytest.fixture
def download(driver, tmp_path):
    driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )

    def save(element, name):
        driver.execute_script("arguments[0].click()", element)
        wait((tmp_path / name).exists)
        return (tmp_path / name).read_bytes().decode()

    return save


def test_downloads_hold_the_rows_that_are_shown(driver, view, download, made):
    text = download(find(driver, "[data-csv=table]"), "toy-table.csv")
    expected = list(csv.DictReader(io.StringIO(tables.to_csv(made.views))))
    assert any(row["gap_to_centralised"].startswith("-") for row in expected)  # stays a number
    assert any(row["method"] == f"'{FORMULA}" for row in expected)
    assert any(row["preset"] == "'-1+1" for row in expected)
    assert list(csv.DictReader(io.StringIO(text))) == expected

    choose(driver, "beta", "0.5")
    choose(driver, "method", "dense")
    sort(driver, "accuracy_mean")
    sort(driver, "accuracy_mean")
    text = download(find(driver, "[data-csv=runs]"), "toy-runs.csv")
    runs = list(csv.DictReader(io.StringIO(text)))
    assert {(run["method"], run["beta"]) for run in runs} == {("dense", "0.5")}
    assert sorted(run["cell_id"] for run in runs) == [
        f"2-05-{i}-{s}" for i in (1, 10) for s in (0, 1)
    ]
    assert {run["status"] for run in runs} == {"ok"}


def test_figures_can_be_saved_and_the_one_of_seconds_is_drawn(driver, view, download):
    drawn = find(driver, "[data-figure=seconds-toy] svg text")
    assert drawn.get_attribute("textContent") == "17.25"
    for name in ("bytes-toy", "seconds-toy"):
        text = download(find(driver, f"a.save[download='{name}.svg']"), f"{name}.svg")
        assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"')


def ground(driver):
    return driver.execute_script("return getComputedStyle(document.body).backgroundColor")


def test_light_and_dark(driver, view):
    from selenium.webdriver.support.wait import WebDriverWait

    light = ground(driver)
    assert light == "rgb(255, 255, 255)"
    find(driver, "#theme").click()
    dark = ground(driver)
    assert dark != light
    # What is stored reaches the next page's process a moment after this one is left.
    WebDriverWait(driver, 10).until(lambda page: view() or ground(page) == dark)
    find(driver, "#theme").click()
    assert ground(driver) == light
    driver.execute_script("localStorage.clear()")
    emulate(driver, scheme="dark")
    view()
    assert ground(driver) == dark
    emulate(driver)


def test_refused_storage_breaks_nothing(driver, view):
    refuse = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})"
    made = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": refuse})
    view()
    light = ground(driver)
    find(driver, "#theme").click()
    assert ground(driver) != light
    assert count(driver) == "12 of 12 rows"
    driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)
    view()


def emulate(driver, media="", scheme="light"):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def test_printing_shows_all_rows_light_and_no_controls(driver, view):
    find(driver, "#theme").click()
    choose(driver, "beta", "0.5")
    sort(driver, "accuracy_mean")
    assert len(shown(driver)) == 6
    emulate(driver, media="print")
    assert len(shown(driver)) == 16
    assert ground(driver) == "rgb(255, 255, 255)"
    for selector in ("#filters", ".bar", "#theme", "nav", "a.save"):
        assert not find(driver, selector).is_displayed()
    assert find(driver, "figure").value_of_css_property("break-inside") == "avoid"
    emulate(driver)
    printed = driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    assert len(shown(driver)) == 6


def test_a_phone_scrolls_the_table_not_the_page(driver, view):
    small = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", small)
    view()
    widths = driver.execute_script(
        "const s = document.querySelector('#scroll');"
        "return [document.documentElement.scrollWidth, s.clientWidth, s.scrollWidth]"
    )
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert widths[0] == 390
    assert widths[1] < 390 < widths[2]


def test_every_control_has_a_name(driver, view):
    nameless = driver.execute_script(
        "return [...document.querySelectorAll('button, a, input, select')].filter((e) =>"
        " !(e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent).trim())"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []
    ids = driver.execute_script("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_without_its_script_it_is_a_table(driver, view, address):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    view()
    rows = driver.find_elements("css selector", "#board tr.row")
    more = driver.find_elements("css selector", "#board tr.more")
    assert all(row.is_displayed() for row in [*rows, *more])
    assert not find(driver, "#filters").is_displayed()
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    view()


def test_no_request_leaves_the_machine(driver, view, address):
    driver.get_log("performance")
    view()
    find(driver, "#board .open").click()
    sort(driver, "accuracy_mean")
    find(driver, ".flat .open").click()
    sent = [
        message["params"]["request"]["url"]
        for message in (json.loads(e["message"])["message"] for e in driver.get_log("performance"))
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert address in sent
    assert all(url.startswith(("file:", "data:", "about:")) for url in sent)
