"""The Runs tab in a real browser: names, search, comparison, bundles, settings taken over."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from jobs.service import JobService
from medvae.workspace import Workspace
from tests.e2e.conftest import Site, ended, seen, tiny, unfold, visit, wait_until_settled


@pytest.fixture(scope="module")
def pair(service: JobService, site: Site, model: str) -> Iterator[tuple[str, str]]:
    """Two finished runs that differ in beta."""
    runs = [service.submit(tiny(1).override({"loss.beta": beta})) for beta in (0.5, 2.0)]
    for run in runs:
        ended(service, run)
    yield runs[0], runs[1]
    for run in runs:
        service.delete(run)


@seen("wide light", "narrow dark")
def test_two_runs_are_picked_in_the_table_and_the_url_shows_them_again(
    page: Page, site: Site, pair: tuple[str, str]
) -> None:
    first, second = pair
    visit(page, f"{site.url}?tab=runs&run={first}")
    row = page.locator(f"#runs-table tr:has(a[href*='run={second}'])").first
    row.get_by_role("link", name="compare").click()
    compared = page.locator("#comparison")
    expect(compared.locator("svg")).to_have_count(3)
    expect(compared.locator("mark")).to_have_count(1)
    assert page.url.endswith(f"?tab=runs&run={first}&with={second}")
    page.reload()
    wait_until_settled(page)
    expect(compared.locator(".compared li")).to_have_count(2)
    compared.get_by_role("link", name="remove").click()
    expect(page.locator("#run-figures")).to_contain_text("trivial baselines")
    assert page.url.endswith(f"?tab=runs&run={first}")
    page.go_back()
    expect(compared.locator(".compared li")).to_have_count(2)


@seen("wide dark")
def test_a_run_is_renamed_found_and_its_settings_taken_over(
    page: Page, site: Site, service: JobService, pair: tuple[str, str]
) -> None:
    visit(page, f"{site.url}?tab=runs&run={pair[1]}")
    name = page.get_by_label("Name of this run")
    expect(name).to_have_value(pair[1])
    name.fill("The  strict one")
    name.press("Enter")
    expect(name).to_have_value("The strict one")
    expect(page.locator("#runs-table")).to_contain_text("The strict one")
    assert service.job(pair[1]).name == "The strict one"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.post_data or ""))
    service.rename(pair[1], "The strict, said a colleague")
    name.focus()
    name.press("Tab")
    page.get_by_label("Find").fill("strict, said")
    expect(page.locator("#runs-table tbody tr")).to_have_count(1)
    assert service.job(pair[1]).name == "The strict, said a colleague"
    assert not [said for said in asked if "The strict one" in said]
    page.get_by_label("Find").fill("strict")
    expect(page.locator("#runs-table tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Train with these settings").click()
    expect(page.locator("#setting-loss-beta input")).to_have_value("2")
    assert f"?tab=train&from={pair[1]}" in page.url
    page.reload()
    wait_until_settled(page)
    expect(page.locator("#setting-loss-beta input")).to_have_value("2")
    expect(page.locator("#setting-training-epochs input")).to_have_value("1")


def test_a_bundle_leaves_by_one_button_and_comes_back_by_another(
    page: Page, site: Site, service: JobService, pair: tuple[str, str], tmp_path: Path
) -> None:
    visit(page, f"{site.url}?tab=runs&run={pair[0]}")
    page.get_by_role("button", name="Model card").click()
    expect(page.locator("#run-card")).to_contain_text("not a medical device")
    unfold(page, "Log and files")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export bundle").click()
    assert download.value.suggested_filename == f"{pair[0]}.zip"
    download.value.save_as(tmp_path / "bundle.zip")
    before = {job.id for job in service.jobs()}
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import bundle").click()
    chooser.value.set_files(tmp_path / "bundle.zip")
    expect(page.locator("#run-head")).to_contain_text("finished")
    page.wait_for_function(f"!location.search.includes('{pair[0]}')")
    [imported] = {job.id for job in service.jobs()} - before
    assert f"run={imported}" in page.url
    assert (Workspace(site.home).run_folder(imported) / "best.pth").is_file()
    service.delete(imported)
