"""The report page, of the shipped results and of small folders; in a real browser where there is one."""

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks import run
from benchmarks.campaign import RESULTS
from benchmarks.report.contents import Contents, contents
from benchmarks.report.page import html
from synergen.errors import UserError

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
needs_browser = pytest.mark.skipif(
    not (DRIVER and BROWSER), reason="no Chromium here: apt-get install chromium chromium-driver"
)


class Ids(HTMLParser):
    """What a page names, and what it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.sources: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.add(value or "")
            elif name == "src":
                self.sources.add((value or "")[:5])


@pytest.fixture(scope="module")
def shipped() -> Contents:
    return contents(RESULTS)


@pytest.fixture(scope="module")
def page(shipped) -> str:
    return html(shipped)


def test_every_link_leads_to_a_place_on_the_page(page):
    found = Ids()
    found.feed(page)
    assert len(set(found.ids)) == len(found.ids)
    links = {link for link in found.links if link != "data:,"}
    assert links <= {f"#{name}" for name in found.ids}
    assert {f"#run-{run}" for run in re.findall(r'id="run-(\w+)"', page)} <= links | {"#runs"}
    assert found.sources == {"data:"}  # nothing from elsewhere
    assert len(page.encode()) < 5_000_000


def test_numbers_are_those_of_the_tables(shipped, page):
    """Each mean as the JSON of its table has it, to two digits of a percent."""
    table = next(table for table in shipped.tables if table.stem == "table3.ml-100k")
    written = json.loads((RESULTS / "tables" / "table3.ml-100k.json").read_text())
    rows = {(row["method"], row["block"]): row for row in written["rows"]}
    for block in table.blocks:
        for row in block.rows:
            assert row["metrics"] == rows[row["method"], block.name]["metrics"]
            for value in row["metrics"].values():
                assert f'<td data-value="{value["mean"]}"' in page
                assert f"<span>{100 * value['mean']:.2f}</span>" in page


def written(folder: Path, rows: list[dict[str, Any]], dataset: str = "ml-100k", number: int = 3) -> Path:
    content = {"table": number, "dataset": dataset, "protocol": {"split": "s", "candidates": "pool", "validation": "v"}}
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    path = folder / "tables" / f"table{number}.{dataset}.json"
    path.write_text(json.dumps(content | {"rows": rows, "notes": ["<b>a note</b>"]}))
    return path


def row(method: str, mean: float | None, gain: dict[str, Any] | None = None) -> dict[str, Any]:
    metrics = {} if mean is None else {"N@10": {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}}
    gains = {} if gain is None else {"N@10": gain}
    status = "pending" if mean is None else "done"
    return {"method": method, "block": "search", "status": status, "seeds": 1, "runs": []} | {
        "metrics": metrics, "gains": gains, "paper": {"N@10": 50.0},
    }  # fmt: skip


def test_standing_and_what_is_missing_follow_from_the_rows(tmp_path):
    """SynerGen second of two, significantly; CoPPS without a run; the paper's data set not among those here."""
    difference = {"mean": -0.1, "low": -0.2, "high": -0.05}
    lost = {"other": "TEM", "difference": difference, "p_holm": 0.00001, "verdict": "lost"}
    written(tmp_path, [row("SynerGen", 0.3, lost), row("TEM", 0.4, lost | {"verdict": "won"}), row("CoPPS", None)])
    found = contents(tmp_path)
    (standing,) = found.tables[0].standings
    assert (standing.place, standing.rows, standing.metric, standing.other) == (2, 2, "N@10", "TEM")
    text = html(found)
    assert "2 of 2" in text
    assert "-10.00 [-20.00, -5.00]" in text
    assert "&lt; 0.0001" in text
    assert '<td class="text lost">lost</td>' in text
    assert re.search(r'data-value="0.4" class="best won"', text)
    assert re.search(r'data-value="0.3" class="second"', text)
    assert "ml-100k: no run of CoPPS is on record." in text
    assert "The paper&#39;s data set, ebook-search, was not run: it is public" in text
    assert "&lt;b&gt;a note&lt;/b&gt;" in text


def test_what_is_no_model_stands_out_in_no_column_and_equal_numbers_stand_out_alike(tmp_path):
    """The oracle is best; of the models two print .40, one of them by a hundredth of a per cent less."""
    methods = {"Oracle (best achievable)": 0.9, "Full model": 0.40004, "w/o RoPE": 0.4, "w/o task mask": 0.3}
    path = written(tmp_path, [row(method, mean, {"verdict": "won"}) for method, mean in methods.items()], number=4)
    text = html(contents(path.parent.parent))
    found = {mean: re.search(rf'data-value="{mean}" class="([^"]*)"', text) for mean in methods.values()}
    assert {mean: match and match[1] for mean, match in found.items()} == {
        0.9: "", 0.40004: "best won", 0.4: "best won", 0.3: "second",
    }  # fmt: skip


def test_a_folder_without_tables_or_with_a_damaged_one_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"there are no tables; make one by benchmarks/run\.py"):
        contents(tmp_path)
    path = written(tmp_path, [{"method": "SynerGen"}])
    with pytest.raises(UserError, match=rf"{re.escape(str(path))}: cannot be read"):
        contents(tmp_path)


def test_the_command_needs_no_table(tmp_path, capsys):
    written(tmp_path, [row("SynerGen", 0.3)])
    assert run.main(["--report", "--out", str(tmp_path)]) == 0
    assert f"written: {tmp_path / 'report.html'}" in capsys.readouterr().out
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory) -> Iterator[Any]:
    from selenium import webdriver

    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(page)
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.get((folder / "report.html").as_uri())
    yield driver
    driver.quit()


@needs_browser
@pytest.mark.parametrize("width", [390, 1440])
def test_it_is_readable_at_the_width_of_a_phone_and_of_a_desk(browser, width):
    """No wider than the window: what is, scrolls by itself. Text is 10 px or larger."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    smallest = "return Math.min(...[...document.querySelectorAll('p, td, th, li, small, figcaption')].filter("
    smallest += "e => e.textContent.trim()).map(e => parseFloat(getComputedStyle(e).fontSize)))"
    assert browser.execute_script(smallest) >= 10
    eager = "document.querySelectorAll('img').forEach(i => i.loading = 'eager'); "
    broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert browser.execute_script(eager + broken) == 0


@needs_browser
def test_headings_sort_and_a_run_opens(browser):
    from selenium.webdriver.common.by import By

    table = browser.find_element(By.CSS_SELECTOR, "[id='table3.ml-100k'] table")
    heading = table.find_elements(By.CSS_SELECTOR, "thead button")[5]
    read = "return [...arguments[0].tBodies[0].rows].map(r => r.cells[5].dataset.value).filter(v => v).map(Number)"
    for reverse in (True, False):
        heading.click()
        values = browser.execute_script(read, table)
        assert values == sorted(values, reverse=reverse)
        assert len(set(values)) > 2
    method = table.find_elements(By.CSS_SELECTOR, "thead button")[0]
    method.click()
    names = browser.execute_script("return [...arguments[0].tBodies[0].rows].map(r => r.cells[0].textContent)", table)
    assert names == sorted(names, key=str.lower)

    link = table.find_element(By.CSS_SELECTOR, "td.runs a")
    target = link.get_attribute("href").split("#")[1]
    link.click()
    details = browser.find_element(By.ID, target)
    browser.execute_script("return new Promise(done => setTimeout(done, 100))")
    assert details.get_attribute("open") is not None
    assert "settings:" in details.text
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
