"""A page with accounts in a real browser: sign in, detect as a viewer, be refused, sign out."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import PATIENCE, Complaints, Site, start_site, stop_site, visit, watch


@pytest.fixture(scope="module")
def closed_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("closed")
    running = start_site(
        folder / "home",
        folder / "page.log",
        "--auth=ann:secret",
        "--viewer=bob:pw",
        "--device=none",
    )
    yield running
    stop_site(running)


@pytest.fixture
def visitor(browser: Browser, closed_site: Site) -> Iterator[Page]:
    context = browser.new_context()
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    yield opened
    context.close()


def sign_in(page: Page, site: Site, name: str, password: str) -> None:
    page.goto(site.url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_a_wrong_password_stays_outside(visitor: Page, closed_site: Site) -> None:
    sign_in(visitor, closed_site, "bob", "guess")
    expect(visitor.get_by_role("alert")).to_have_text("Name or password is wrong.")


def test_a_viewer_sees_the_page_and_may_not_train(visitor: Page, closed_site: Site) -> None:
    sign_in(visitor, closed_site, "bob", "pw")
    complaints = Complaints()
    watch(visitor, closed_site, complaints)
    expect(visitor.get_by_role("tab", name="Detect")).to_be_visible()
    visit(visitor, f"{closed_site.url}?tab=train")
    visitor.locator("#queue-training").click()
    audit = closed_site.home / "data" / "state" / "audit.log"
    deadline = time.monotonic() + 10
    while "queue_training refused" not in audit.read_text() and time.monotonic() < deadline:
        visitor.wait_for_timeout(100)
    assert "queue_training refused" in audit.read_text()
    assert not [said for said in complaints.console if "Content Security Policy" in said]
    assert complaints.outside == []
    visitor.get_by_role("link", name="Sign out").click()
    expect(visitor.get_by_label("Password")).to_be_visible()


def test_an_upload_is_looked_for_in_the_private_folder_and_gone_when_the_page_ends(
    visitor: Page, closed_site: Site, phantom_file: Path
) -> None:
    sign_in(visitor, closed_site, "ann", "secret")
    visitor.locator("#upload input[type=file]").set_input_files(phantom_file)
    expect(visitor.get_by_text("there is no model yet")).to_be_visible()
    uploads = closed_site.home / "data" / "uploads"
    assert [file for file in uploads.rglob(phantom_file.name) if file.stat().st_size]
    assert uploads.stat().st_mode & 0o077 == 0
    stop_site(closed_site)
    assert not uploads.exists()
