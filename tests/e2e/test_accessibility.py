"""What axe-core says of every tab, and whether the keyboard alone reaches everything."""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from jobs.service import JobService
from tests.e2e.conftest import Site, ended, tiny, unfold, visit

SIGNS = {"detect": "#intro .notice", "train": "#curves svg", "runs": "#run-records summary"}


# What fades in has the contrast of fog until it is there.
SETTLED = """() => !document.querySelector("#intro .pending") && document.getAnimations().every(
    each => each.playState !== "running" || each.effect.getComputedTiming().endTime === Infinity)"""


def faults(page: Page) -> list[str]:
    """Serious and critical violations, with the first element of each."""
    page.wait_for_function(SETTLED)
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {each['nodes'][0]['target']} "
        f"{each['nodes'][0]['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.fixture(scope="module")
def second(service: JobService, model: str) -> str:
    """One more finished run, and an imported data set."""
    ended(service, service.submit_import(tiny(epochs=1)))
    return ended(service, service.submit(tiny(epochs=1)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_tab_has_a_serious_violation(
    browser: Browser,
    site: Site,
    model: str,
    second: str,
    scheme: Literal["dark", "light"],
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
    page = context.new_page()
    for tab, sign in SIGNS.items():
        visit(page, f"{site.url}?tab={tab}&run={model}")
        expect(page.locator(sign).first).to_be_visible()
        assert faults(page) == [], tab
    visit(page, f"{site.url}?tab=runs&run={model}&with={second}")
    expect(page.locator("#comparison svg")).to_have_count(3)
    page.get_by_role("button", name="Model card").click()
    unfold(page, "Log and files")
    assert faults(page) == []
    visit(page, f"{site.url}?tab=data")
    expect(page.locator("#set-details img")).to_have_count(4)
    assert faults(page) == []
    visit(page, site.url)
    page.get_by_role("button", name="Show test images").click()
    expect(page.locator("#results .card")).to_have_count(6)
    assert faults(page) == []
    page.locator("#results .card .triptych").first.click()
    expect(page.locator("#viewer dialog")).to_be_visible()
    assert faults(page) == []
    context.close()


def test_the_keyboard_alone_opens_and_closes_an_image(page: Page, site: Site, model: str) -> None:
    visit(page, site.url)
    button = page.get_by_role("button", name="Show test images")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#results .card")).to_have_count(6)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.triptych')"):
            break
    page.keyboard.press("Enter")
    viewer = page.locator("#viewer dialog")
    expect(viewer).to_be_visible()
    after, before = (viewer.get_by_role("button", name=name) for name in ("Next", "Previous"))
    expect(after).to_be_focused()
    for index in range(1, 6):
        page.keyboard.press("Enter")
        expect(viewer).to_have_attribute("data-index", str(index))
        expect(after).to_be_focused()
    page.keyboard.press("Enter")  # there is no further one
    before.focus()
    page.keyboard.press("Enter")
    expect(viewer).to_have_attribute("data-index", "4")
    expect(before).to_be_focused()
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(page.locator("#results .triptych").nth(4)).to_be_focused()


# What one can act on, numbered; of radio buttons with one name, the chosen one stands for all.
NUMBER_ALL = """() => {
    const all = document.querySelectorAll("button, a[href], input, select, textarea, summary");
    const open = [...all].filter((each) => each.checkVisibility({ visibilityProperty: true })
        && !each.disabled && each.type !== "file" && each.tabIndex >= 0
        && !(each.type === "radio" && !each.checked) && each.getClientRects().length);
    open.forEach((each, n) => each.dataset.number = n);
    return open.map((each) => each.outerHTML.slice(0, 120));
}"""
NUMBER_OF_FOCUSED = "() => document.activeElement?.dataset.number ?? null"


def test_the_keyboard_alone_reaches_everything_on_every_tab(
    page: Page, site: Site, model: str
) -> None:
    for tab, sign in SIGNS.items():
        visit(page, f"{site.url}?tab={tab}&run={model}")
        expect(page.locator(sign).first).to_be_visible()
        page.wait_for_timeout(300)
        every = page.evaluate(NUMBER_ALL)
        reached = set()
        for _ in range(3 * len(every)):
            page.keyboard.press("Tab")
            reached.add(page.evaluate(NUMBER_OF_FOCUSED))
            if len(reached - {None}) == len(every):
                break
        assert [html for n, html in enumerate(every) if str(n) not in reached] == [], tab
