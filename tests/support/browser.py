"""A real headless Chromium for tests, with everything that it says and asks for kept."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
"""Where pictures of the pages are kept, for whoever wants to see what a test saw."""

_TALLEST = 3000
_FLAGS = (
    "--headless",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """One Chromium. `base` is the address of the dashboard, `http://127.0.0.1:3200`."""

    def __init__(self) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or driver is None:
            pytest.fail("Chromium or its driver is not installed: run .ci/setup browser")
        self._profile = tempfile.mkdtemp(prefix="ss-browser-")
        options = Options()
        options.binary_location = chromium
        for flag in (*_FLAGS, f"--user-data-dir={self._profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.base = ""
        self._width = 1280

    def size(self, width: int, scheme: str = "light") -> None:
        """A window so wide, a phone's if it is narrow, for somebody who likes it `light` or `dark`."""
        self._width = width
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self._tall(900)

    def open(self, page: str) -> None:
        """Show a page anew: `service/web`."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.base}/#/{page}")

    def text(self, selector: str = "main") -> str:
        """What stands there, as a reader sees it."""
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        assert found, f"there is no {selector}"
        try:
            return found[0].text
        except StaleElementReferenceException:  # the page was drawn anew meanwhile
            raise AssertionError(f"there is another {selector} now") from None

    def row(self, caption: str, name: str) -> dict[str, str]:
        """The row of this name in the table with this beginning of its caption: each cell by its column's title."""
        script = """
            const [caption, name] = arguments;
            for (const table of document.querySelectorAll("table")) {
                if (!table.caption?.textContent.startsWith(caption)) continue;
                const titles = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.replace(/ [↓↑]$/, ""));
                for (const row of table.tBodies[0].rows) {
                    const cells = [...row.cells].map((cell) => cell.innerText.trim());
                    if (cells[0].split(/\\s/)[0] !== name) continue;
                    return Object.fromEntries(cells.map((text, at) => [titles[at], text]));
                }
            }
            return null;"""
        found: dict[str, str] | None = self.driver.execute_script(script, caption, name)
        assert found is not None, f"no row {name} in a table {caption}: {self.text()[:2000]}"
        return found

    def press(self, *keys: str) -> None:
        """Press keys, where the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, text: str, limit: int = 40) -> None:
        """Go on with Tab until the focus is on what says this, and can be seen to be there."""
        for _ in range(limit):
            self.press(Keys.TAB)
            focus = self.driver.switch_to.active_element
            if focus.text == text:
                assert focus.value_of_css_property("outline-style") != "none", f"the focus on {text} is not to be seen"
                return
        raise AssertionError(f"{limit} times Tab do not reach {text}")

    def picture(self, name: str, height: int | None = None) -> Path:
        """Keep a picture of the whole page, or so much of it."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        whole = int(self.driver.execute_script("return document.documentElement.scrollHeight"))
        self._tall(min(_TALLEST, height or whole))
        path = SCREENSHOTS / f"{name}.png"
        assert self.driver.save_screenshot(str(path))
        self._tall(900)
        return path

    def complaints(self) -> list[str]:
        """What stands on the console since it was asked last: errors and warnings, of the pages and of the browser."""
        return [f"{each['level']} {each['message']}" for each in self._log("browser")]

    def hosts_asked(self) -> set[str]:
        """The hosts that were asked for anything since the last time, with their ports."""
        asked = set()
        for entry in self._log("performance"):
            message: dict[str, Any] = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = urlsplit(message["params"]["request"]["url"])
                if url.scheme in ("http", "https", "ws", "wss"):
                    asked.add(url.netloc)
        return asked

    def close(self) -> None:
        """End it, and leave nothing behind."""
        self.driver.quit()
        shutil.rmtree(self._profile, ignore_errors=True)

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries

    def _tall(self, height: int) -> None:
        metrics = {"width": self._width, "height": height, "deviceScaleFactor": 1, "mobile": self._width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that shows nothing yet."""
    made = Browser()
    yield made
    made.close()
