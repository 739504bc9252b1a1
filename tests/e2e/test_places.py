"""Finding one's way in a real browser: the URL, the back button, narrow screens, light and dark."""

from playwright.sync_api import Page, expect

from jobs.service import JobService
from jobs.views import Status
from tests.e2e.conftest import LOOKS, Site, seen, tiny, visit

SIGNS = {
    "detect": "#intro .notice",
    "train": "#curves svg",
    "runs": "#run-records summary",
    "data": "#sets .panel",
}


def test_the_url_leads_to_a_run_and_the_back_button_back(
    page: Page, site: Site, model: str
) -> None:
    visit(page, site.url)
    page.get_by_role("tab", name="Runs").click()
    page.locator(f"#runs-table a[href*='{model}']").click()
    expect(page.locator("#run-figures")).to_contain_text("trivial baselines")
    assert page.url.endswith(f"?tab=runs&run={model}")
    page.go_back()
    expect(page.locator("#run-figures")).to_be_hidden()
    page.go_back()
    expect(page.get_by_role("tab", name="Detect")).to_have_attribute("aria-selected", "true")
    visit(page, f"{site.url}?tab=runs&run={model}")
    expect(page.get_by_role("tab", name="Runs")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#run-figures")).to_contain_text("trivial baselines")


def test_a_run_that_does_not_exist_is_said_to_be_missing(page: Page, site: Site) -> None:
    visit(page, f"{site.url}?tab=train&run=<b>nobody</b>")
    expect(page.locator("#run-status")).to_contain_text("There is no run named <b>nobody</b>")


def test_all_faults_of_the_form_are_shown_at_once(
    page: Page, site: Site, service: JobService
) -> None:
    before = len(service.jobs())
    visit(page, f"{site.url}?tab=train")
    page.locator("#setting-training-epochs input").fill("-1")
    page.locator("#setting-model-latent_size input").fill("0")
    page.locator("#setting-loss-beta input").fill("")
    page.get_by_role("button", name="Queue training").click()
    faults = page.locator("#faults li")
    expect(faults).to_have_count(3)
    for label in ("Epochs", "Latent size", "Beta"):
        expect(page.locator("#faults")).to_contain_text(label)
    assert len(service.jobs()) == before


def test_a_cancelled_run_is_retried_and_deleted_from_the_runs_tab(
    page: Page, site: Site, service: JobService
) -> None:
    job = service.submit(tiny(epochs=1))
    service.stop(job)
    visit(page, f"{site.url}?tab=runs&run={job}")
    page.get_by_role("button", name="Retry from the start").click()
    expect(page.locator("#run-head")).to_contain_text("finished")
    assert service.job(job).status is Status.SUCCEEDED
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(f"#runs-table a[href*='{job}']")).to_have_count(0)
    assert job not in [other.id for other in service.jobs()]


@seen(*LOOKS)
def test_every_tab_fits_its_screen_in_light_and_dark(
    page: Page, site: Site, model: str, look: str
) -> None:
    for tab, sign in SIGNS.items():
        visit(page, f"{site.url}?tab={tab}&run={model}")
        expect(page.locator(sign).first).to_be_visible()
        overflow = "() => document.documentElement.scrollWidth - window.innerWidth"
        assert page.evaluate(overflow) <= 0, tab
    is_dark = "() => document.body.classList.contains('dark')"
    assert page.evaluate(is_dark) == look.endswith("dark")
    page.get_by_role("button", name="Light / dark").click()
    assert page.evaluate(is_dark) == look.endswith("light")
