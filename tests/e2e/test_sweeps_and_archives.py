"""Sweeps and archives in a real browser: one form, many runs, one table."""

import time
from pathlib import Path

import pyarrow.parquet as pq
from playwright.sync_api import Page, expect

from jobs.service import JobService
from jobs.views import Status
from tests.e2e.conftest import Site, seen, tiny, unfold, visit
from tests.small_archive import write_images, write_odd_files


def test_an_archive_is_scored_from_the_page_and_its_table_downloaded(
    page: Page, site: Site, model: str, tmp_path: Path
) -> None:
    write_images(tmp_path / "archive", 12)
    write_odd_files(tmp_path / "archive" / "odd")
    visit(page, site.url)
    unfold(page, "Score a whole archive")
    page.locator("#archive-source textarea, #archive-source input").fill(str(tmp_path / "archive"))
    page.get_by_role("button", name="Queue scoring").click()
    page.get_by_role("link", name="Watch it on the Runs tab").click()
    expect(page.locator("#run-figures")).to_contain_text("Not readable")
    expect(page.locator("#run-head")).to_contain_text("Scoring of an archive")
    unfold(page, "Log and files")
    expect(page.locator("#run-log")).to_contain_text("(score), attempt")
    page.locator("#run-file input").click()
    page.get_by_role("option", name="scores.parquet").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    rows = pq.read_table(download.value.path())
    assert rows.num_rows == 17
    assert download.value.suggested_filename == "scores.parquet"


@seen("narrow light")
def test_a_sweep_is_queued_watched_and_ranked(page: Page, site: Site, service: JobService) -> None:
    visit(page, f"{site.url}?tab=train")
    for name, value in (("epochs", 1), ("batch_size", 8)):
        page.locator(f"#setting-training-{name} input").fill(str(value))
    page.locator("#setting-model-latent_size input").fill("8")
    unfold(page, "Advanced")
    for name, value in (("data-phantoms", 60), ("model-image_size", 32), ("model-width", 4)):
        field = page.locator(f"#setting-{name} input")
        if field.get_attribute("type") == "number":
            field.fill(str(value))
        else:
            field.click()
            page.get_by_role("option", name=str(value), exact=True).click()
    unfold(page, "Try several values")
    page.locator("#try-loss-beta input, #try-loss-beta textarea").fill("0.5, 2")
    page.get_by_role("button", name="Queue sweep").click()
    expect(page.locator("#run-status")).to_contain_text("Sweep of beta")
    page.get_by_role("tab", name="Runs").click()
    expect(page.locator("#run-figures")).to_contain_text("Runs of this sweep")
    expect(page.locator("#run-head")).to_contain_text("finished")
    expect(page.locator("#run-figures tbody tr")).to_have_count(2)
    expect(page.locator("#run-figures svg")).to_have_count(1)
    page.locator("#run-figures tbody a").first.click()
    expect(page.locator("#run-head")).to_contain_text("Training")


@seen("narrow dark")
def test_a_waiting_run_is_moved_up_and_to_the_front(
    page: Page, site: Site, service: JobService
) -> None:
    long = service.submit(tiny(epochs=2000))
    deadline = time.monotonic() + 30
    while service.job(long).status is not Status.RUNNING and time.monotonic() < deadline:
        time.sleep(0.1)
    first, second, last = (service.submit(tiny(epochs=1), name=f"Number {n}") for n in (1, 2, 3))
    visit(page, f"{site.url}?tab=runs&run={last}")
    mover = page.get_by_role("button", name="Move Number 3 up")
    mover.focus()  # and from here by the keyboard alone, though the line is drawn anew each time
    for place in (1, 0):
        page.keyboard.press("Enter")
        expect(page.locator("ol.line li").nth(place)).to_contain_text("Number 3")
        expect(mover).to_be_focused()
    assert [job.id for job in service.line()] == [last, first, second]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("ol.line li").nth(1)).to_contain_text("Number 3")
    page.get_by_role("button", name="Move to the front").click()
    deadline = time.monotonic() + 5
    while service.queue_position(last) != 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert service.queue_position(last) == 1
    for job in service.jobs(10, [Status.QUEUED, Status.RUNNING]):
        service.stop(job.id)
