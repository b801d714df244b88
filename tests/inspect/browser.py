"""A real Chromium to open pages in, and what can be seen there. Imported as `from tests.inspect import browser`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

#: Nothing that would speak to the network of its own accord, or keep anything.
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--disable-dev-shm-usage",
    "--window-size=1280,800",
)  # fmt: skip


def skip_without() -> None:
    """Skip, saying what is missing, where there is no browser to test in."""
    pytest.importorskip("selenium", reason="selenium is not installed: the page is not tested in a browser")
    missing = [name for name, path in (("chromium", CHROMIUM), ("chromedriver", DRIVER)) if path is None]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)}: the page is not tested in a browser")


@contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """A browser that lives in an empty folder."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # told where the driver is, selenium does not look for one, on the network or elsewhere
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """The few things that tests do with a page, and see of it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, file: Path) -> None:
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(file.as_uri())

    def run(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def press(self, *keys: str) -> None:
        """Keys, pressed wherever the focus is."""
        self.actions().send_keys(*keys).perform()

    def actions(self) -> Any:
        """Moves of the mouse, to be performed."""
        from selenium.webdriver import ActionChains

        return ActionChains(self.driver)

    def step(self, number: int) -> None:
        """Move the slider."""
        self._set("#slider", number, "input")

    def choose(self, selector: str, value: str) -> None:
        self._set(selector, value, "change")

    def _set(self, selector: str, value: Any, event: str) -> None:
        script = "const [it, value, event] = arguments; it.value = value; it.dispatchEvent(new Event(event))"
        self.run(script, self.find(selector), value, event)

    def click(self, selector: str) -> None:
        """A click on a part of the drawing, which may lie under something else."""
        script = (
            "document.querySelector(arguments[0]).dispatchEvent(new PointerEvent('pointerdown', { bubbles: true }));"
            "dispatchEvent(new PointerEvent('pointerup'))"
        )
        self.run(script, selector)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def texts(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)

    def count(self, selector: str) -> int:
        return self.run("return document.querySelectorAll(arguments[0]).length", selector)

    def classes(self, selector: str) -> list[str]:
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.getAttribute('class'))", selector
        )

    def boxes(self, selector: str) -> dict[str, tuple[float, float, float, float]]:
        """Left, top, right and bottom on the screen of all elements, by their first data-* attribute."""
        found = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((e) => {"
            " const r = e.getBoundingClientRect();"
            " return [Object.values(e.dataset)[0] ?? '', [r.left, r.top, r.right, r.bottom]]; })",
            selector,
        )
        return {key: tuple(box) for key, box in found}

    def prefer(self, scheme: str, motion: str = "reduce") -> None:
        """What the system asks for: "light" or "dark", and to "reduce" motion or "no-preference"."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def complaints(self) -> list[str]:
        """What the console said since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> set[str]:
        """Every address that was asked for since the page was opened."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return {url for url in asked if not url.startswith("about:")}
