"""The admin in a real browser, on a real installation: ADM-1 to ADM-6, SEC-9, QLT-2."""

import pytest

from smtpproxy.tests import browser, environment
from smtpproxy.tests.installation import installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    if reason := browser.missing():
        environment.missing(reason)
    with installation(tmp_path_factory.mktemp("browser") / "data") as one:
        one.start()
        yield one
        one.stop()


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    try:
        return browser.axe_source(tmp_path_factory.mktemp("axe"))
    except RuntimeError as reason:
        environment.missing(f"axe-core: {reason}")


@pytest.fixture(scope="module")
def window(running, axe, tmp_path_factory):
    with browser.browser(f"http://127.0.0.1:{running.web_port}", tmp_path_factory.mktemp("downloads"), axe) as one:
        yield one


@pytest.fixture
def operator(window, running):
    """A window in which the operator of the demo has signed in."""
    credentials = running.credentials()
    window.driver.delete_all_cookies()
    window.sign_in(credentials["operator"], credentials["operator_password"])
    yield window
    assert window.complaints() == []


def _pages(window):
    links = [
        link.get_attribute("href") for link in window.all("nav a[href^='/admin/'], #nav-sidebar a[href^='/admin/']")
    ]
    return sorted({link.removeprefix(window.address).partition("?")[0] for link in links if link} - {"/admin/logout/"})


def test_every_page_of_the_navigation_fits_its_window_and_can_be_used_by_everybody(operator):
    pages = _pages(operator)
    assert len(pages) > 10, operator.text
    found = {}
    for page in pages:
        operator.open(page)
        problems = operator.axe() + operator.complaints()
        if operator.overflow() > 0:
            problems.append(f"{operator.overflow()} px too wide")
        if problems:
            found[page] = problems
    assert found == {}
