"""The report page in a real browser: elements, figures, no errors, no requests, light and dark."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casinductor.errors import CacheNotFound
from casinductor.store.format.names import CacheId
from tests.conftest import Fleet
from tests.inspect.conftest import Command, note, warmup
from tests.needs import need, need_package

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1300,1000",
)


@pytest.fixture
def page(store: Fleet, run: Command, tmp_path: Path) -> Path:
    cache = CacheId("H100", "model/v1")
    contents = [bytes.fromhex(row["content"])[:8] for row in run("inspect", "model/v1")]
    for number in range(3):
        report = warmup(str(cache), used=contents[0], unused=contents[1])
        report.worker["host"] = f"worker-{number}"
        note(store, cache, report)
    target = tmp_path / "report.html"
    told = run("report", "model/v1", "-o", target)
    assert told["runs"] == 3
    return target


def test_the_page_is_one_file_that_asks_for_nothing(page: Path) -> None:
    text = page.read_text()
    markup = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)\s*=\s*"', markup)
    assert "default-src 'none'" in markup
    assert not list(page.parent.glob(".*")), "no temporary file is left"


def test_a_report_of_everything_and_of_nothing(store: Fleet, run: Command, tmp_path: Path) -> None:
    assert run("report", "--all", "-o", tmp_path / "all.html")["bytes"] > 1_000_000
    with pytest.raises(CacheNotFound):
        run("report", "nothing", "-o", tmp_path / "none.html")
    assert "give a CACHE" in run("report", "-o", tmp_path / "x.html", status=2).output
    assert sorted(path.name for path in tmp_path.glob("*.html")) == ["all.html"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    need("chromium", "chromedriver")
    need_package("selenium", "selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    assert BROWSER is not None
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def load(browser: Any, page: Path, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get_log("performance")
    browser.get(page.as_uri())
    for _ in range(200):
        if browser.execute_script("return document.documentElement.dataset.drawn") == scheme:
            return
        time.sleep(0.05)
    raise AssertionError(browser.get_log("browser"))


def background(browser: Any) -> tuple[int, ...]:
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    return tuple(map(int, re.findall(r"\d+", colour)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_itself(browser: Any, page: Path, scheme: str, run: Command) -> None:
    load(browser, page, scheme)
    assert (sum(background(browser)) > 600) == (scheme == "light")
    for chart in ("treemap", "dedup", "growth", "history", "slowest"):
        drawn = browser.execute_script(
            f"return document.querySelectorAll('#{chart} svg.main-svg').length"
        )
        assert drawn, chart
    leaves = browser.execute_script("return document.querySelectorAll('#treemap g.slice').length")
    assert leaves > 5
    bars = browser.execute_script("return document.querySelectorAll('#history g.point').length")
    assert bars == 9, "three runs, hit, missed and bypassed"
    text = browser.execute_script("return document.body.innerText")
    stats = run("stats", "model/v1")
    assert f"{stats['artifacts']}" in text
    assert "50.0 %" in text, "one hit and one miss in each run"
    assert "worker-2" in text
    assert "torch lies elsewhere" in text
    idle = browser.execute_script("return document.querySelectorAll('#idle tbody tr').length")
    assert idle == 1, "one graph was never read"
    errors = [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]
    assert not errors
    asked = {
        message["params"]["request"]["url"].split(":")[0]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    }
    assert asked <= {"file", "data", "blob"}


def test_the_button_turns_the_light_off(browser: Any, page: Path) -> None:
    load(browser, page, "light")
    before = background(browser)
    browser.execute_script("document.getElementById('theme').click()")
    assert browser.execute_script("return document.documentElement.dataset.drawn") == "dark"
    assert sum(background(browser)) < sum(before)
    font = browser.execute_script("return document.getElementById('growth').layout.font.color")
    assert font == "#e6e9ee", "charts follow the page"
