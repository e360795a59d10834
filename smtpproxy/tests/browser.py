"""A person at a screen: Debian's Chromium, headless, driven through the pages of a running installation.

Words are what is on the page: buttons and links are found by their text, fields by their label. Whatever the browser
complains of (a script that breaks, something the content security policy stopped) fails the test that saw it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import (
    ElementNotInteractableException,
    StaleElementReferenceException,
    WebDriverException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from smtpproxy.tests import npm
from smtpproxy.tests.services import wait_until

AXE = "axe-core@4.14.1"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
_HARMLESS = ("favicon.ico",)
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root runs it in CI; it only ever sees pages of our own
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--force-prefers-reduced-motion",
)


def missing() -> str:
    """Why there is no browser here, "" when there is one."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    return "" if all(found) else "Chromium and its driver are not installed"


class Browser:
    """One window at one installation."""

    def __init__(self, address: str, downloads: Path, axe: str = "", *, dark: bool = False) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*_FLAGS, *(["--force-dark-mode"] if dark else [])):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        self.driver.set_page_load_timeout(60)
        self.address, self.downloads, self._axe = address, downloads, axe
        self.resize(1280, 900)

    # --- Going about ------------------------------------------------------------------------------------------------
    def open(self, path: str) -> None:
        self.driver.get(path if path.startswith("http") else f"{self.address}{path}")

    @property
    def path(self) -> str:
        return self.driver.current_url.removeprefix(self.address)

    @property
    def text(self) -> str:
        """What can be read on the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def resize(self, width: int, height: int = 900) -> None:
        self.driver.set_window_size(width, height)

    def sign_in(self, email: str, password: str) -> None:
        self.open("/admin/login/")
        self.fill("username", email)
        self.fill("password", password)
        self.driver.find_element(By.NAME, "password").send_keys(Keys.ENTER)
        self.wait(lambda: "/login/" not in self.path, f"the sign-in of {email}")

    # --- What is there ----------------------------------------------------------------------------------------------
    def wait(self, condition: Any, what: str, seconds: float = 20) -> None:
        def holds() -> bool:
            with contextlib.suppress(StaleElementReferenceException):
                return bool(condition())
            return False

        try:
            wait_until(holds, what, seconds)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.path}\n{self.text}") from error

    def reads(self, *words: str, seconds: float = 20) -> None:
        """Wait until the page says all of this."""
        self.wait(lambda: all(word in self.text for word in words), f"reading {words}", seconds)

    def find(self, css: str) -> WebElement:
        found: list[WebElement] = []
        self.wait(lambda: found.extend(self.all(css)) or found, f"{css} on the page")
        return found[0]

    def all(self, css: str) -> list[WebElement]:
        return [one for one in self.driver.find_elements(By.CSS_SELECTOR, css) if one.is_displayed()]

    def named(self, words: str) -> WebElement:
        """A button or link by its text, its label, or its title."""
        quoted = f"concat('', \"{words}\")"
        path = (
            f"//*[self::a or self::button or self::summary or @role='button' or @role='tab']"
            f"[normalize-space(.)={quoted} or normalize-space(text())={quoted}"
            f" or @aria-label={quoted} or @title={quoted}]"
            f" | //input[@type='submit'][@value={quoted}]"
        )
        found: list[WebElement] = []

        def shown() -> bool:
            found[:] = [one for one in self.driver.find_elements(By.XPATH, path) if one.is_displayed()]
            return bool(found)

        self.wait(shown, f"a button or link {words!r}")
        return found[0]

    # --- Doing ------------------------------------------------------------------------------------------------------
    def click(self, words: str) -> None:
        element = self.named(words)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def fill(self, name: str, value: str) -> None:
        """Give a field, by its name, a value: text, a choice by its words, or "on"/"off" for a box."""
        element = self.driver.find_element(By.NAME, name)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        if element.tag_name == "select":
            Select(element).select_by_visible_text(value)
        elif element.get_attribute("type") == "checkbox":
            if element.is_selected() != (value == "on"):
                self._toggle(element)
        else:
            element.clear()
            element.send_keys(value)

    def _toggle(self, box: WebElement) -> None:
        try:
            box.click()
        except (ElementNotInteractableException, WebDriverException):
            self.driver.execute_script("arguments[0].click()", box)

    # --- How it looks -----------------------------------------------------------------------------------------------
    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        script = "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
        return int(self.driver.execute_script(script))

    def complaints(self) -> list[str]:
        """What the browser had to say since the last look: errors of scripts, and what the policy stopped."""
        told = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [message for message in told if not any(word in message for word in _HARMLESS)]

    def axe(self, *, leave: str = "") -> list[str]:
        """What keeps people from using this page: each violation with an example (WCAG 2.1 A and AA)."""
        self.driver.execute_script(self._axe)
        context = {"exclude": [[leave]]} if leave else {}
        script = """
            const [context, rules, done] = arguments;
            axe.run(Object.keys(context).length ? context : document, {runOnly: {type: 'tag', values: rules}})
                .then(found => done(found.violations.map(one => `${one.id} (${one.impact}): ${one.help}: `
                    + one.nodes.slice(0, 3).map(node => node.html.slice(0, 160) + ' '
                        + (node.any[0] || node.all[0] || node.none[0] || {}).message).join(' | '))));
        """
        return list(self.driver.execute_async_script(script, context, RULES))

    def picture(self, path: Path) -> None:
        self.driver.save_screenshot(str(path))


def axe_source(folder: Path) -> str:
    """The text of axe-core; raises RuntimeError where it cannot be had."""
    reason = npm.install(folder, AXE)
    if reason:
        raise RuntimeError(reason)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@contextlib.contextmanager
def browser(address: str, folder: Path, axe: str = "", *, dark: bool = False) -> Iterator[Browser]:
    """A browser with a profile of its own; closed at the end."""
    made = Browser(address, folder, axe, dark=dark)
    try:
        yield made
    finally:
        made.driver.quit()
