"""The HTML report in a real browser: Debian's chromium, driven by selenium.

apt-get install chromium chromium-driver
"""

from __future__ import annotations

import base64
import shutil
import struct
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

import conformance_reports as made
from convspec_conformance.reports.page import page

REPORT = made.full()
WIDTHS = {"phone": 390, "desktop": 1440}
SCHEMES = ("light", "dark")
#: Every element that shows text of its own or is a control, with its rectangle and colours.
#: The matrix and code scroll sideways in boxes of their own, and are cut off at their edges.
MEASURE = """
const boxes = [];
const cut = (element) => {
  let { left, top, right, bottom } = element.getBoundingClientRect();
  for (let at = element.parentElement; at; at = at.parentElement) {
    if (!["auto", "scroll", "hidden"].includes(getComputedStyle(at).overflowX)) continue;
    const edge = at.getBoundingClientRect();
    left = Math.max(left, edge.left); right = Math.min(right, edge.right);
  }
  return { left, top, right, bottom };
};
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const [r, g, b, a = 1] = channels(getComputedStyle(at).backgroundColor);
    if (a === 1) return [r, g, b];
  }
  return [255, 255, 255];
};
for (const element of document.body.querySelectorAll("*")) {
  if (element.closest("script, noscript, option, svg")) continue;
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own && !element.matches("input, select, svg")) continue;
  if (!element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const { left, top, right, bottom } = cut(element);
  if (right - left < 1 || bottom - top < 1) continue;
  boxes.push({
    name: `${element.tagName}.${element.className} ${element.textContent.slice(0, 40)}`,
    left, top, right, bottom, ink: channels(style.color), back: behind(element),
    inside: element.parentElement.closest("label, button, h3") !== null,
  });
}
return boxes;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The report, open in a browser without a window."""
    driver = shutil.which("chromedriver")
    assert driver, "this test needs a browser: apt-get install chromium chromium-driver"
    folder = tmp_path_factory.mktemp("page")
    for name, report in (("report", REPORT), ("three", made.several(3)), ("nine", made.several(9))):
        (folder / f"{name}.html").write_text(page(report), encoding="utf-8")
    file = folder / "report.html"
    options = Options()
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with Chrome(options=options, service=Service(driver)) as chrome:
        chrome.address = file.as_uri()  # type: ignore[attr-defined]
        yield chrome


def show(
    browser: Chrome, width: int = 1440, scheme: str = "light", at: str = "", name: str = "report"
) -> None:
    """Load a page anew."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get("about:blank")
    address = browser.address.replace("report.html", f"{name}.html")  # type: ignore[attr-defined]
    browser.get(address + at)


def find(browser: Any, selector: str) -> list[Any]:
    found: list[Any] = browser.find_elements(By.CSS_SELECTOR, selector)
    return found


def one(browser: Any, selector: str) -> Any:
    (found,) = find(browser, selector)
    return found


def details(browser: Chrome) -> list[str]:
    """The texts under an opened case, which the page writes once it is told of the opening."""
    blocks = WebDriverWait(browser, 20).until(lambda page: find(page, ".list .more pre"))
    return [block.text for block in blocks]


def outside(boxes: list[dict[str, Any]], width: int) -> list[str]:
    """What sticks out of the page sideways."""
    return [box["name"] for box in boxes if box["left"] < -0.5 or box["right"] > width + 0.5]


def overlaps(boxes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of texts on top of each other, by more than a rounded pixel."""
    boxes = [box for box in boxes if not box["inside"]]
    return [
        (a["name"], b["name"])
        for a, b in combinations(boxes, 2)
        if min(a["right"], b["right"]) - max(a["left"], b["left"]) > 1
        and min(a["bottom"], b["bottom"]) - max(a["top"], b["top"]) > 1
    ]


def contrast(box: dict[str, Any]) -> float:
    """WCAG 2's ratio of the luminances of text and what is behind it, 1 to 21."""

    def luminance(colour: list[float]) -> float:
        linear = [
            c / 255 / 12.92 if c <= 0.04045 * 255 else ((c / 255 + 0.055) / 1.055) ** 2.4
            for c in colour[:3]
        ]
        return sum(f * c for f, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(box["ink"]), luminance(box["back"])), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nothing_overlaps_sticks_out_or_fades(
    browser: Chrome, tmp_path: Path, width: int, scheme: str
) -> None:
    show(browser, width, scheme, "#status=bad")
    for summary in find(browser, "summary")[:3]:
        summary.click()
    details(browser)
    boxes = browser.execute_script(MEASURE)
    assert len(boxes) > 150
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert outside(boxes, width) == []
    assert overlaps(boxes) == []
    assert [box["name"] for box in boxes if contrast(box) < 4.5] == []
    clip = {"x": 0, "y": 0, "width": width, "height": 2000, "scale": 1}
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
    )
    png = base64.b64decode(shot["data"])
    (tmp_path / f"{width}-{scheme}.png").write_bytes(png)
    assert struct.unpack(">II", png[16:24]) == (width, 2000)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_three_backends_stand_side_by_side(browser: Chrome, tmp_path: Path, width: int) -> None:
    """No column of the table is out of sight, and no text is cut off."""
    show(browser, width, name="three")
    edges = browser.execute_script(
        "return [...document.querySelectorAll('#matrix thead th, #matrix .cell')].map(e =>"
        " [e.getBoundingClientRect().right, e.scrollWidth - e.clientWidth, e.textContent])"
        ".filter(([right]) => right > 0)"
    )
    assert len(edges) > 50
    # They fill the table: nothing is spent on a column that is not there.
    assert max(right for right, *_ in edges) > 0.93 * width
    assert [edge for edge in edges if edge[0] > width or edge[1] > 0] == []
    boxes = browser.execute_script(MEASURE)
    assert outside(boxes, width) == []
    assert overlaps(boxes) == []
    assert not one(browser, "#aside").is_displayed()
    texts = {cell.text for cell in find(browser, ".cell")}
    assert {"2 of 6 +6", "2 of 6", "4 bad"} <= texts, texts
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {})
    (tmp_path / f"three-{width}.png").write_bytes(base64.b64decode(shot["data"]))


def test_more_backends_than_fit_are_told_of(browser: Chrome) -> None:
    show(browser, 390, name="nine")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert one(browser, "#aside").text == "The table goes on to the right."
    show(browser, 1440, name="nine")
    assert overlaps(browser.execute_script(MEASURE)) == []


@pytest.mark.parametrize(
    ("style", "check"),
    [
        (".badge { position: absolute; left: 9rem }", "overlap"),
        (".share { margin-bottom: -3rem }", "overlap"),
        ("#about { white-space: nowrap; position: absolute }", "outside"),
        (".quiet { color: #ccc !important }", "contrast"),
    ],
)
def test_the_measures_notice(browser: Chrome, style: str, check: str) -> None:
    show(browser, 390)
    browser.execute_script(
        "document.head.append(Object.assign(document.createElement('style'),"
        " { textContent: arguments[0] }))",
        style,
    )
    boxes = browser.execute_script(MEASURE)
    found = {
        "overlap": overlaps(boxes),
        "outside": outside(boxes, 390),
        "contrast": [box for box in boxes if contrast(box) < 4.5],
    }
    assert found[check]


def test_no_network_and_no_error(browser: Chrome) -> None:
    show(browser)
    browser.get_log("browser")  # of pages before
    show(browser)
    loaded = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    assert browser.execute_script(loaded) == []
    assert browser.get_log("browser") == []
    # The policy in the page would refuse it, too.
    asked = "return fetch('data:text/plain,x').then(() => 'came', () => 'refused')"
    assert browser.execute_script(asked) == "refused"


def test_cards_lead_with_the_claims(browser: Chrome) -> None:
    show(browser)
    shares = [element.text for element in find(browser, ".share strong")]
    assert shares == ["92 %", "100 %"]
    facts = [element.text for element in find(find(browser, ".card")[0], ".facts li")]
    assert facts == [
        "6 bad",
        "69 pass",
        "5 not claimed",
        "2 could be claimed",
        "75 % of gradients claimed",
        "worst error/bound ∞",
    ]
    assert "no licence found" in one(browser, ".broken").text


def test_a_click_through_to_a_failing_case(browser: Chrome) -> None:
    show(browser, 390)
    row = next(
        row for row in find(browser, "#matrix tbody tr") if row.text.startswith("exact numbers")
    )
    cell = find(row, ".cell")[0]
    assert cell.text == "4 bad"
    assert "torch, judged by exact numbers: 4 of 66 are bad" in cell.get_attribute("title")
    cell.click()
    assert one(browser, "#count").text == "4 results, 4 of them bad"
    assert [badge.text for badge in find(browser, ".badge")] == [
        "wrong result",
        "raised an error",
        "hung",
        "crashed",
    ]
    first = find(browser, "summary")[0]
    assert first.location["y"] - browser.execute_script("return scrollY") < 900  # it is in view
    assert find(browser, ".list .more") == []
    first.click()
    blocks = details(browser)
    assert blocks[0] == made.WRONG.detail
    assert blocks[1] == f"{made.SMALL.case.line}\n\n{made.SMALL.detail}"
    assert blocks[2].startswith("import torch\n")
    assert blocks[3] == (
        "convspec conformance run --backend torch --case "
        "\"exact float32 1x1x2 seed=0 | ConvSpec(1, 1, (2,), bias=False, layout='NCW')\""
    )
    # The view has an address of its own.
    address = browser.current_url
    browser.get("about:blank")
    browser.get(address)
    assert one(browser, "#count").text == "4 results, 4 of them bad"
    one(browser, "#reset").click()
    assert one(browser, "#count").text == "160 results, 6 of them bad"
    assert browser.current_url == browser.address  # type: ignore[attr-defined]


def test_filters(browser: Chrome) -> None:
    show(browser)
    count = one(browser, "#count")
    assert len(find(browser, "#list > li")) == 100
    one(browser, "#more").click()
    assert len(find(browser, "#list > li")) == 160
    Select(one(browser, "#by-status")).select_by_visible_text("could be claimed")
    assert count.text == "2 results, 0 of them bad"
    Select(one(browser, "#by-status")).select_by_visible_text("any")
    Select(one(browser, "#by-target")).select_by_visible_text("torch")
    Select(one(browser, "#by-capability")).select_by_visible_text("type: float16")
    assert count.text == "6 results, 0 of them bad"
    text = one(browser, "#by-text")
    text.send_keys("seed=5 TRANSPOSED")
    assert count.text == "1 results, 0 of them bad"
    text.send_keys(" absent")
    assert count.text == "0 results, 0 of them bad"
    assert find(browser, "#list > li") == []


def test_what_a_backend_says_is_no_markup(browser: Chrome) -> None:
    show(browser, at="#status=error")
    one(browser, "summary").click()
    assert "<b>&amp;" in details(browser)[0]
    assert find(browser, ".more b, .more script") == []


def test_histograms(browser: Chrome) -> None:
    show(browser)
    torch, right = find(browser, ".histogram")
    # 12.5 and NaN are beyond the bound, 1 itself is not.
    assert len(find(torch, "rect.bad")) == 2
    assert find(right, "rect.bad") == []
    counts = [int(text.text) for text in find(right, "svg text")[: len(find(right, "rect"))]]
    assert sum(counts) == len(made.REAL)
