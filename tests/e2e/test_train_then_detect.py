"""The main job in a real browser: train on the page, watch it, then look at a file of one's own."""

import base64
import csv
import json
import os
import re
import signal
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from jobs.service import JobService
from jobs.views import Status
from tests.e2e.conftest import Complaints, Site, seen, tiny, visit, wait_until_settled, watch

# An image on the clipboard, as a browser hands it over.
PASTE = """(text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""


def show_test_images(page: Page, site: Site) -> None:
    visit(page, site.url)
    page.get_by_role("button", name="Show test images").click()
    expect(page.locator("#results .card")).to_have_count(6)


def test_a_bad_file_gets_a_message_and_does_not_lose_the_good_one(
    page: Page, site: Site, model: str, phantom_file: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "broken.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 no image")
    visit(page, site.url)
    page.locator("#upload input[type=file]").set_input_files([bad, phantom_file])
    expect(page.locator("#results .card")).to_have_count(2)
    failed = page.locator("#results .card.failed")
    expect(failed).to_contain_text("broken.jpg")
    expect(failed).to_contain_text("Could not be read")
    page.evaluate(PASTE, base64.b64encode(phantom_file.read_bytes()).decode())
    expect(page.locator("#results .card")).to_have_count(1)
    expect(page.locator("#results .card")).to_contain_text("pasted.png")


@seen("narrow light")
def test_sampled_test_images_show_their_truth_and_make_a_report_card(
    page: Page, site: Site, model: str
) -> None:
    visit(page, site.url)
    expect(page.locator("#intro .notice")).to_be_visible()
    page.get_by_label("How many").fill("2")
    page.get_by_role("button", name="Show test images").click()
    cards = page.locator("#results .card")
    expect(cards).to_have_count(2)
    expect(page.locator("#intro")).to_be_hidden()  # it gives way, also to what it says later
    expect(cards.first).to_contain_text("labelled sick")
    expect(cards.last).to_contain_text("labelled healthy")
    page.get_by_role("button", name="Draw report card").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download PNG").click()
    assert download.value.suggested_filename.startswith("report-card-")


@seen("wide light", "narrow dark")
def test_an_image_is_looked_at_closely_and_the_results_are_kept(
    page: Page, site: Site, model: str
) -> None:
    show_test_images(page, site)
    with page.expect_download() as saved:  # at the model's own share of false alarms
        page.get_by_role("button", name="Download table").click()
    rows = list(csv.DictReader(saved.value.path().read_text().splitlines()))
    assert {row["target_fpr"] for row in rows} == {"0.233"}
    unusual = page.locator("#results .card.unusual")
    assert [row["verdict"] for row in rows].count("unusual") == unusual.count()
    slider = page.locator("#target-fpr")
    before = [unusual.count()]
    for percents in ("1", "20"):
        slider.fill(percents)
        before.append(unusual.count())
        assert page.locator(".count-unusual").inner_text() == str(before[-1])
        undecided = page.locator("#results .card.undecided").count()
        assert undecided == (len(rows) if percents == "1" else 0)  # few healthy images to judge by
        expect(page.locator(".count-undecided")).to_be_visible(visible=bool(undecided))
    assert before[1] <= before[2] <= before[0]
    page.locator("#card-order").select_option("unusual")
    scores = [float(card.get_attribute("data-score") or 0) for card in page.locator(".card").all()]
    assert scores == sorted(scores, reverse=True)
    page.locator("#results .card").nth(2).locator(".triptych").click()
    viewer = page.locator("#viewer dialog")
    expect(viewer).to_be_visible()
    expect(viewer.locator(".likes img")).to_have_count(3)
    viewer.locator("#view-contours").uncheck()
    expect(viewer.locator(".contours")).to_be_hidden()
    viewer.locator("#view-split").fill("40")
    viewer.locator("#view-map").select_option("difference")
    assert viewer.locator(".stage").get_attribute("style") == "--split: 40%;"
    assert viewer.locator(".stage").get_attribute("data-map") == "difference"
    first = viewer.locator("h2").first.inner_text()
    neighbour = viewer.get_by_role("button", name=re.compile("Next|Previous"), disabled=False)
    neighbour.first.click()
    expect(viewer.locator("h2").first).not_to_have_text(first)
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    page.locator("[data-pick]").first.check()
    for button, name in (("Download table", "scores"), ("Download heatmaps", "heatmaps")):
        with page.expect_download() as saved:
            page.get_by_role("button", name=button).click()
        assert saved.value.suggested_filename.startswith(name)


@seen("narrow dark")
def test_a_reload_and_a_second_tab_find_the_running_job_and_cancel_reaches_both(
    page: Page, site: Site, service: JobService, complaints: Complaints
) -> None:
    job = service.submit(tiny(epochs=5000))
    visit(page, f"{site.url}?tab=train&run={job}")
    status = page.locator("#run-status")
    expect(status).to_contain_text(re.compile(r"Epoch \d+ of 5000"))
    page.reload()
    wait_until_settled(page)
    expect(status).to_contain_text(re.compile(r"Epoch \d+ of 5000"))
    second = page.context.new_page()
    watch(second, site, complaints)
    visit(second, f"{site.url}?tab=train")
    expect(second.locator("#run-status")).to_contain_text(re.compile(r"Epoch \d+ of 5000"))
    page.get_by_role("button", name="Cancel run").click()
    expect(status).to_contain_text("Cancelled after")
    expect(second.locator("#run-status")).to_contain_text("Cancelled after")
    assert service.job(job).status is Status.CANCELLED


def test_a_closer_look_at_results_that_are_gone_says_what_to_do(
    page: Page, site: Site, model: str
) -> None:
    show_test_images(page, site)

    def forget(route: Route) -> None:
        asked = json.loads(route.request.post_data or "{}")
        asked["data"][0] = "gone"
        route.continue_(post_data=json.dumps(asked))

    page.route("**/queue/join**", forget)
    page.locator("#results .card .triptych").first.click()
    expect(page.get_by_text("look at the images again")).to_be_visible()


def test_stop_and_keep_makes_a_model_of_what_was_learnt(
    page: Page, site: Site, service: JobService
) -> None:
    job = service.submit(tiny(epochs=5000))
    visit(page, f"{site.url}?tab=train&run={job}")
    page.get_by_role("button", name="Stop and keep").click()
    expect(page.locator("#run-status")).to_contain_text("Stopped by hand and kept")
    visit(page, f"{site.url}?tab=runs&run={job}")
    page.get_by_role("button", name="Use this model for Detect").click()
    expect(page.locator("#run-head")).to_contain_text("used by Detect")
    expect(page.locator("#chips")).to_contain_text(job)


@seen("narrow light")
def test_a_killed_worker_is_replaced_and_the_run_goes_on(
    page: Page, site: Site, service: JobService
) -> None:
    job = service.submit(tiny(epochs=5000))
    visit(page, f"{site.url}?tab=train&run={job}")
    status = page.locator("#run-status")
    expect(status).to_contain_text(re.compile(r"Epoch \d+ of"))
    [worker] = [worker for worker in service.workers() if worker.alive]
    os.kill(worker.pid, signal.SIGKILL)
    expect(page.locator("#chips")).to_contain_text("after it died (signal 9)")
    expect(status).to_contain_text("attempt 2")
    expect(status).to_contain_text(re.compile(r"Epoch \d+ of"))
    service.stop(job)
