"""The gallery in a real browser: what must never happen to a person, or to the page."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from local.azurite import REPO_ROOT
from local.stack import Stack
from tests.drawing import picture
from tests.gallery.browser.conftest import HTML, SCRIPT, UNSAFE, Visit
from tests.gallery.browser.test_gallery import first_is, names, search, tile

AXE = REPO_ROOT / ".venv/browser/node_modules/axe-core/axe.min.js"


def test_names_and_texts_made_of_markup_are_shown_as_they_are(gallery: Page) -> None:
    made = gallery.locator("#grid li").filter(has_text=HTML)
    expect(made).to_have_count(1)
    made.locator("button").click()
    expect(gallery.locator("#detail-text")).to_have_text(SCRIPT)
    expect(gallery.locator("#facts")).to_contain_text(UNSAFE)
    gallery.get_by_role("button", name="More like this").click()
    expect(gallery.locator("#example")).to_contain_text(HTML)
    gallery.get_by_role("button", name="Remove the picture").click()
    gallery.get_by_label("Folder").fill(SCRIPT)
    search(gallery, HTML)
    expect(gallery.locator("#summary")).to_contain_text(SCRIPT)
    gallery.reload()
    expect(gallery.locator("#summary")).to_contain_text(SCRIPT)
    assert gallery.locator("script").count() == 1


def test_no_text_can_become_markup_or_style_whatever_the_page_does(visit: Visit, gallery: Page) -> None:
    visit.expected = ("Trusted", "Content Security Policy")
    refused = gallery.evaluate("() => { try { document.body.innerHTML = '<b>' } catch (error) { return error.name } }")
    assert refused == "TypeError"
    gallery.evaluate("document.head.append(Object.assign(document.createElement('style'), { textContent: 'p {}' }))")
    assert gallery.evaluate("document.styleSheets.length") == 1


def test_ten_thousand_pictures_are_as_light_as_fifty(visit: Visit, running: Stack) -> None:
    total, step = 10_000, 2_500
    small = picture("red", (40, 30), "JPEG")

    def listed(route: Route) -> None:
        after = int((re.findall(r"after=(\d+)", route.request.url) or ["0"])[0])
        facts = {"height": 400, "text": None, "url": "", "media_type": "image/jpeg", "embedded_at": "2026-11-27T12:00Z"}
        results = [{**facts, "name": f"{after + at}.jpg", "width": 300 + at % 7 * 100} for at in range(step)]
        more = str(after + step) if after + step < total else None
        route.fulfill(json={"space": "", "results": results, "next": more, "index": {"images": total, "as_of": None}})

    page = visit.page
    page.route("**/api/images*", listed)
    page.route("**/api/thumbnails/*", lambda route: route.fulfill(body=small, content_type="image/jpeg"))
    page.goto(f"{running.functions_url}/api/gallery#key={running.functions_key}")
    expect(page.locator("#grid li.there").first).to_be_visible()
    most = 0
    while names(page)[-1:] != [f"{total - 1}.jpg"]:
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(50)
        most = max(most, page.locator("#grid li").count())
    assert 0 < most < 300
    expect(page.locator("#grid li").last).to_have_attribute("aria-setsize", str(total))
    page.evaluate("scrollTo(0, 0)")
    expect(page.locator("#grid li").first).to_contain_text("0.jpg")
    expect(page.locator("#grid li.there").first).to_be_visible()


@pytest.mark.parametrize("options", [{"color_scheme": scheme, "bypass_csp": True} for scheme in ("light", "dark")])
def test_nothing_stands_in_the_way_of_people_with_disabilities(gallery: Page) -> None:
    def serious() -> list[str]:
        found: Any = gallery.evaluate("axe.run({ resultTypes: ['violations'] })")
        return [
            f"{one['id']}: {json.dumps([node['html'][:200] for node in one['nodes']])}"
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
        ]

    gallery.evaluate(AXE.read_text())
    assert serious() == []
    search(gallery, "red")
    first_is(gallery, "colours/red.png")
    expect(gallery.locator("#grid li:not(.there)")).to_have_count(0)
    assert serious() == []
    tile(gallery, "colours/red.png").click()
    expect(gallery.locator("#detail")).to_contain_text("Tokens")
    assert serious() == []
    gallery.keyboard.press("Escape")
    gallery.get_by_role("button", name="State").click()
    gallery.get_by_text("Damaged image").click()
    expect(gallery.locator("#state")).to_contain_text("cut off.png")
    assert serious() == []
