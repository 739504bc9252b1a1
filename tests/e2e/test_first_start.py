"""What a new user does first, in a real browser: train a model, then look at a file with it."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from jobs.service import JobService
from medvae.workspace import Workspace
from tests.e2e.conftest import Site, free_port, start_site, stop_site, tiny, unfold, visit

TINY_FORM = {
    "training-epochs": "3",
    "training-least_images": "0",
    "training-batch_size": "8",
    "model-latent_size": "8",
    "model-width": "4",
    "data-phantoms": "60",
    "data-validation_fraction": "0.3",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page of its own, on which nobody has trained anything yet."""
    folder = tmp_path_factory.mktemp("first")
    running = start_site(folder / "home", folder / "page.log")
    yield running
    stop_site(running)


@pytest.fixture(scope="module")
def service(site: Site) -> Iterator[JobService]:
    with closing(JobService(Workspace(site.home))) as opened:
        yield opened


def test_a_page_without_a_model_says_what_to_do(page: Page, site: Site) -> None:
    visit(page, site.url)
    expect(page.locator("#intro")).to_contain_text("No model yet")
    expect(page.locator("#chips")).to_contain_text("Worker idle")
    page.locator("#intro").get_by_role("link", name="Train tab").click()
    expect(page.locator("#run-status")).to_contain_text("Nothing has been trained yet")
    assert "tab=train" in page.url


def test_a_new_user_trains_watches_and_sees_a_heatmap_of_an_uploaded_file(
    page: Page, site: Site, service: JobService, phantom_file: Path
) -> None:
    visit(page, f"{site.url}?tab=train")
    unfold(page, "Advanced")
    for setting, value in TINY_FORM.items():
        page.locator(f"#setting-{setting} input").fill(value)
    page.get_by_role("button", name="Queue training").click()
    status = page.locator("#run-status")
    expect(status.get_by_role("progressbar").first).to_be_visible()
    expect(status).to_contain_text("Finished after")
    expect(page.locator("#curves svg")).to_have_count(3)
    expect(page.locator("#film figure")).to_have_count(1 + 3)
    [job] = service.jobs()
    assert job.config is not None
    assert job.config["training"]["epochs"] == 3
    assert f"run={job.id}" in page.url

    page.get_by_role("tab", name="Detect").click()
    page.locator("#upload input[type=file]").set_input_files(phantom_file)
    pictures = page.locator("#results .card img")
    expect(pictures).to_have_count(3)
    for index in range(3):
        assert pictures.nth(index).evaluate("image => image.complete && image.naturalWidth > 100")
    expect(page.locator("#results")).to_contain_text("healthy validation images")
    expect(page.locator("#chips")).to_contain_text(job.id)


def test_an_open_page_goes_on_by_itself_when_the_server_was_restarted(
    browser: Browser, tmp_path: Path
) -> None:
    """The page is left alone: no reload, no click."""
    home, log, port = tmp_path / "home", tmp_path / "page.log", free_port()
    first = start_site(home, log, port=port)
    with closing(JobService(Workspace(home))) as service:
        job = service.submit(tiny(epochs=5000))
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    visit(page, f"{first.url}?tab=train&run={job}")
    status = page.locator("#run-status")
    expect(status).to_contain_text(re.compile(r"Epoch \d+ of 5000"))
    first.process.kill()
    first.process.wait(20)
    again = start_site(home, log, port=port)
    try:
        expect(status).to_contain_text("attempt 2")
        expect(status).to_contain_text(re.compile(r"Epoch \d+ of 5000"))
        expect(page.locator("#chips")).to_contain_text("Worker running")
    finally:
        page.close()
        stop_site(again)
