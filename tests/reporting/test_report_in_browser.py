"""The report in a real browser: no request, no error in the console."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_HOST = re.compile(r"https?://(?!www\.w3\.org/)[\w.-]+")


@pytest.fixture
def page(tmp_path, full_report) -> Path:
    place = tmp_path / "report.html"
    place.write_text(full_report)
    return place


def browse(page: Path, folder: Path) -> tuple[set[str], str]:
    """Addresses that the browser asked for, and what it logged."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: install Debian's package chromium")
    log = folder / "netlog.json"
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={log}",
            "--enable-logging=stderr",
            "--v=0",
            f"--screenshot={folder / 'page.png'}",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (folder / "page.png").is_file(), done.stderr
    asked = set(re.findall(r'"url":"([^"]+)"', log.read_text()))
    # The browser's own services, which it asks whatever page it shows.
    own = re.compile(r"https?://([\w-]+\.)*(google|gstatic|googleapis|gvt1)\.com(:443)?/")
    return {url for url in asked if not own.match(url)}, done.stderr


def test_the_browser_asks_for_nothing_and_complains_of_nothing(page, tmp_path):
    asked, logged = browse(page, tmp_path)
    assert {url for url in asked if url.startswith(("http", "ws"))} == set()
    assert "CONSOLE" not in logged


def test_the_check_would_see_a_request_and_an_error(page, tmp_path):
    """What the test above would miss if the browser's logs had changed."""
    html = page.read_text().replace("img-src data:", "img-src *")
    wrong = '<img src="http://127.0.0.1:9/x.png"><script>console.error("x")</script>'
    page.write_text(html.replace("<main>", f"<main>{wrong}"))
    asked, logged = browse(page, tmp_path)
    assert "http://127.0.0.1:9/x.png" in asked
    assert "CONSOLE" in logged


def test_no_address_stands_in_the_page(full_report):
    """Needs no browser."""
    assert set(_HOST.findall(full_report)) == set()
    assert "<script" not in full_report
