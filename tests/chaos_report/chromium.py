"""A real headless Chromium that shows one page and reports what it did: requests, console, layout, colours."""

from __future__ import annotations

import base64
import json
import shutil
import time
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
LOG_SECONDS = 60
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--disable-dev-shm-usage",
)  # fmt: skip

OVERFLOW = """
const width = document.documentElement.clientWidth;
const inside = (e) => e.closest('.scroll, pre, .skip, .objectives thead');
return [document.documentElement.scrollWidth - width,
  [...document.body.querySelectorAll('*')].filter(e => !inside(e) && e.getBoundingClientRect().right > width + 0.5)
    .map(e => e.tagName + '.' + e.className)];
"""
"""By how much the page is wider than its window, and the elements that are."""
CONTRAST = """
const parse = (c) => { const v = c.match(/[\\d.]+/g).map(Number); return [v[0], v[1], v[2], v.length > 3 ? v[3] : 1]; };
const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
const light = (c) => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = (e) => { const chain = [];
  for (; e; e = e.parentElement) chain.push(parse(getComputedStyle(e).backgroundColor));
  return chain.reverse().reduce((under, top) => over(top, under), [255, 255, 255]); };
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const found = [];
for (const e of document.body.querySelectorAll('*')) {
  const words = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (!words || ['TITLE', 'DESC', 'SCRIPT'].includes(e.tagName.toUpperCase()) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e), svg = e.namespaceURI.endsWith('svg');
  const under = ground(svg ? e.ownerSVGElement.parentElement : e);
  found.push([ratio(over(parse(svg ? style.fill : style.color), under), under), e.textContent.trim().slice(0, 40)]);
}
return found;
"""
"""The contrast of each text with its background, and the text."""


class Chromium:
    """`profile` is a new empty folder for its user data."""

    def __init__(self, profile: Path) -> None:
        options = Options()
        options.binary_location = BROWSER
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self._driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self._driver.set_page_load_timeout(60)
        self._driver.set_script_timeout(60)

    def show(self, page: Path | str, width: int, height: int, scheme: str, medium: str = "", **features: str) -> None:
        """Open a file or URL at a viewport's size, in light or dark; `features` are further media features."""
        self.requests(), self.console()
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        media += [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self._command("Emulation.setEmulatedMedia", media=medium, features=media)
        self._command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        self._driver.get(page if isinstance(page, str) else page.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """The return value of a script in the page."""
        return self._driver.execute_script(script, *arguments)

    def later(self, script: str, *arguments: Any) -> Any:
        """The value that the script passes to its callback, its last argument."""
        return self._driver.execute_async_script(script, *arguments)

    def requests(self) -> list[str]:
        """URLs requested since the last call."""
        messages = [json.loads(row["message"])["message"] for row in self._driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def requests_from(self, url: str) -> list[str]:
        """URLs requested from the given one on, which is waited for.

        The log comes late on a busy machine, and may begin with what the browser asked for before, at its start.
        """
        found, deadline = self.requests(), time.monotonic() + LOG_SECONDS
        while url not in found and time.monotonic() < deadline:
            time.sleep(0.05)
            found += self.requests()
        return found[found.index(url) :] if url in found else found

    def console(self) -> list[str]:
        """Console messages since the last call."""
        return [row["message"] for row in self._driver.get_log("browser")]

    def picture(self, path: Path, whole: bool = True) -> None:
        """A screenshot as PNG, of the whole page or of what is in view."""
        shot = self._command("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def downloads_to(self, folder: Path) -> None:
        """From now on."""
        self._command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def close(self) -> None:
        """End the browser and its driver."""
        self._driver.quit()

    def _command(self, name: str, **arguments: Any) -> dict[str, Any]:
        return self._driver.execute_cdp_cmd(name, arguments)
