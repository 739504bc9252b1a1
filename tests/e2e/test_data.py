"""The Data tab in a real browser: an import is watched, stopped, and its audit read."""

import shutil
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e.conftest import Site, seen, visit, wait_until_settled


@seen("narrow dark")
def test_a_folder_is_imported_and_its_audit_is_green_after_a_reload_too(
    page: Page, site: Site, chest_folder: Path
) -> None:
    visit(page, f"{site.url}?tab=data")
    page.get_by_label("Folder on this computer").fill(str(chest_folder))
    page.get_by_role("button", name="Import folder").click()
    page.locator("#import-status").get_by_role("link", name="See what is in it").click()
    details = page.locator("#set-details")
    expect(details).to_contain_text("No sick or test image can reach training")
    expect(details).to_contain_text("3,024 pairs compared")
    expect(details.locator("img")).to_have_count(4)
    assert "tab=data&set=" in page.url
    page.reload()
    wait_until_settled(page)
    expect(details.locator("img")).to_have_count(4)


def test_a_zip_is_uploaded_and_phantoms_are_drawn_until_stopped(
    page: Page, site: Site, chest_folder: Path, tmp_path: Path
) -> None:
    archive = shutil.make_archive(str(tmp_path / "uploaded"), "zip", chest_folder)
    visit(page, f"{site.url}?tab=data")
    page.locator("#import-archive input[type=file]").set_input_files(archive)
    expect(page.locator("#sets-table")).to_contain_text("uploaded")
    page.locator("#phantom-count input").fill("90000")
    page.get_by_role("button", name="Draw phantoms").click()
    status = page.locator("#import-status")
    expect(status).to_contain_text("Drawing phantoms")
    page.get_by_role("button", name="Stop import").click()
    expect(status).to_contain_text("Cancelled after")
    expect(page.locator("#sets-table")).not_to_contain_text("90,000")
    page.get_by_label("Folder on this computer").fill("/no/such/folder")
    page.get_by_role("button", name="Import folder").click()
    expect(page.get_by_text("no such folder")).to_be_visible()
