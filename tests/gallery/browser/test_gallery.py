"""The gallery in a real browser: what a person sees and does."""

import base64
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from local.stack import Stack
from tests.drawing import picture
from tests.gallery.browser.conftest import BROKEN, COLOURS, HTML, PICTURES, Container, Visit, heic

SIZE = "120 \u00d7 80"


def names(page: Page) -> list[str]:
    found: list[str] = page.locator("#grid li").evaluate_all("tiles => tiles.map(tile => tile.firstChild.title)")
    return found


def tile(page: Page, name: str) -> Locator:
    return page.locator(f"#grid button[title='{name}']")


def search(page: Page, words: str) -> None:
    page.locator("#words").fill(words)
    page.keyboard.press("Enter")


def first_is(page: Page, name: str) -> None:
    """The best of what was found has this name."""
    expect(page.locator("#grid li button:has(.score)").first).to_have_attribute("title", name)


# The key


def test_the_key_is_asked_for_refused_plainly_if_it_is_wrong_and_kept_in_this_tab_alone(
    visit: Visit, running: Stack
) -> None:
    visit.expected = ("401",)
    page = visit.page
    page.goto(f"{running.functions_url}/api/gallery")
    page.get_by_label("Function key").fill("wrong")
    page.get_by_role("button", name="Open the gallery").click()
    expect(page.get_by_text("The app does not know this key.")).to_be_visible()
    page.get_by_label("Function key").fill(running.functions_key)
    page.keyboard.press("Enter")
    expect(page.locator("#grid li.there").first).to_be_visible()
    stores = page.evaluate("[Object.values(sessionStorage), Object.values(localStorage), document.cookie]")
    assert stores == [[running.functions_key], [], ""]
    assert not [url for url in visit.asked if running.functions_key in url]
    page.get_by_role("button", name="State").click()
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_label("Function key")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_link_may_bring_the_key_which_leaves_the_address_at_once(visit: Visit, gallery: Page, running: Stack) -> None:
    assert gallery.url == f"{running.functions_url}/api/gallery"
    assert not [url for url in visit.asked if running.functions_key in url.partition("#")[0]]
    search(gallery, "red")
    first_is(gallery, "colours/red.png")
    gallery.go_back()
    expect(gallery.locator("#grid .score")).to_have_count(0)
    assert running.functions_key not in gallery.url


def test_who_may_sign_in_is_offered_that(visit: Visit, running: Stack) -> None:
    visit.expected = ("401",)
    headers = {"www-authenticate": "Bearer realm=app"}
    visit.page.route("**/api/images*", lambda route: route.fulfill(status=401, headers=headers))
    visit.page.goto(f"{running.functions_url}/api/gallery")
    expect(visit.page.get_by_role("link", name="Sign in instead")).to_be_visible()


# Search


def test_it_begins_with_all_pictures_in_their_own_shapes(gallery: Page) -> None:
    expect(gallery.locator("#summary")).to_have_text(f"{len(PICTURES)} pictures, the newest first")
    assert set(names(gallery)) == PICTURES.keys()
    # Its record says 120 x 80, which is how the camera held it.
    gallery.wait_for_function(
        "tile => tile.clientWidth < tile.clientHeight", arg=tile(gallery, "turned.jpg").element_handle()
    )


def test_words_find_and_the_address_says_so(gallery: Page) -> None:
    search(gallery, "red")
    first_is(gallery, "colours/red.png")
    assert gallery.url.endswith("#q=red")
    search(gallery, "blue")
    first_is(gallery, "colours/blue.png")
    gallery.go_back()
    first_is(gallery, "colours/red.png")
    expect(gallery.locator("#words")).to_have_value("red")
    gallery.reload()
    first_is(gallery, "colours/red.png")


def hand_over(page: Page, kind: str, data: bytes, name: str) -> None:
    """Drop or paste a file, as the browser tells the page of it."""
    page.evaluate(
        """([kind, data, name]) => {
          const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name, { type: "image/png" }));
          const event = kind === "paste"
            ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })
            : new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
          document.body.dispatchEvent(event);
        }""",
        [kind, base64.b64encode(data).decode(), name],
    )


def test_a_picture_that_is_dropped_finds_what_is_like_it_alone_or_with_words(gallery: Page) -> None:
    hand_over(gallery, "dragover", picture("green"), "mine.png")
    expect(gallery.get_by_text("Drop it to find pictures like it")).to_be_visible()
    hand_over(gallery, "drop", picture("green"), "mine.png")
    expect(gallery.get_by_text("Drop it to find pictures like it")).to_be_hidden()
    first_is(gallery, "colours/green.png")
    expect(gallery.locator("#example")).to_contain_text("mine.png")
    expect(gallery.locator("#example img")).to_be_visible()
    with gallery.expect_request("**/api/search*") as asked:
        search(gallery, "in the rain")
    assert "text=in+the+rain" in asked.value.url
    first_is(gallery, "colours/green.png")
    gallery.get_by_role("button", name="Remove the picture").click()
    expect(gallery.locator("#example")).to_be_hidden()


def test_a_picture_that_is_pasted_finds_what_is_like_it(gallery: Page) -> None:
    hand_over(gallery, "paste", picture("blue"), "image.png")
    first_is(gallery, "colours/blue.png")


def test_a_file_that_the_browser_cannot_show_finds_as_well(gallery: Page) -> None:
    gallery.get_by_label("Search with a picture").set_input_files(
        {"name": "phone.heic", "mimeType": "image/heic", "buffer": heic("red")}
    )
    first_is(gallery, "colours/red.png")
    expect(gallery.locator("#example")).to_contain_text("phone.heic")
    expect(gallery.locator("#example img")).to_be_hidden()


def test_what_is_no_picture_or_too_large_is_said_with_what_to_do(visit: Visit, gallery: Page) -> None:
    visit.expected = ("400",)
    hand_over(gallery, "drop", b"no picture", "notes.png")
    expect(gallery.get_by_role("alert")).to_contain_text("not a picture")
    gallery.get_by_role("button", name="Dismiss").click()
    gallery.evaluate(
        """() => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(21 * 2 ** 20)], "huge.tiff"));
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
        }"""
    )
    expect(gallery.get_by_role("alert")).to_contain_text("huge.tiff has more than 20 MB")


def test_a_folder_filters_what_is_shown_and_what_is_found(gallery: Page) -> None:
    gallery.get_by_label("Folder").fill("colours/")
    gallery.keyboard.press("Enter")
    expect(gallery.locator("#grid li")).to_have_count(len(COLOURS))
    search(gallery, "purple")
    expect(gallery.locator("#grid .score")).to_have_count(len(COLOURS))
    gallery.get_by_label("Folder").fill("nowhere/")
    gallery.keyboard.press("Enter")
    expect(gallery.locator("#summary")).to_contain_text("in nowhere/ is found")


# One picture


def test_a_click_shows_a_picture_large_with_its_facts_and_others_like_it(gallery: Page) -> None:
    search(gallery, "red")
    first_is(gallery, "colours/red.png")
    tile(gallery, "colours/red.png").click()
    detail = gallery.get_by_role("dialog", name="red.png")
    for text in ("a caption in red", SIZE, "image/png", "Cohere-embed-v3-english", "bytes", "colours/red.png"):
        expect(detail).to_contain_text(text)
    expect(detail.locator("#large")).to_have_js_property("naturalWidth", 120)
    assert "picture=colours%2Fred.png" in gallery.url
    gallery.reload()
    expect(detail).to_contain_text("a caption in red")
    detail.get_by_role("button", name="More like this").click()
    expect(detail).to_be_hidden()
    expect(gallery.locator("#example")).to_contain_text("red.png")
    expect(gallery.locator("#grid .score")).to_have_count(len(PICTURES) - 1)
    assert "colours/red.png" not in names(gallery)


def test_the_link_to_a_picture_can_be_copied_and_holds_no_key(gallery: Page, running: Stack) -> None:
    gallery.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tile(gallery, "colours/blue.png").click()
    gallery.get_by_role("button", name="Copy link").click()
    expect(gallery.get_by_role("button", name="Copied")).to_be_visible()
    link = gallery.evaluate("navigator.clipboard.readText()")
    assert link == f"{running.functions_url}/api/gallery#picture=colours%2Fblue.png"
    gallery.keyboard.press("Escape")
    expect(gallery).to_have_url(f"{running.functions_url}/api/gallery")
    gallery.goto(link)
    expect(gallery.get_by_role("dialog", name="blue.png")).to_contain_text(SIZE)


def test_a_folder_of_a_picture_is_a_filter(gallery: Page) -> None:
    tile(gallery, "colours/blue.png").click()
    gallery.get_by_role("button", name="colours /").click()
    expect(gallery.locator("#grid li")).to_have_count(len(COLOURS))
    expect(gallery.get_by_label("Folder")).to_have_value("colours/")


def test_the_keyboard_alone_is_enough(gallery: Page) -> None:
    gallery.keyboard.press("/")
    gallery.keyboard.type("yellow")
    gallery.keyboard.press("Enter")
    first_is(gallery, "colours/yellow.png")
    gallery.get_by_label("Folder").focus()
    gallery.keyboard.press("Tab")
    expect(tile(gallery, "colours/yellow.png")).to_be_focused()
    found = names(gallery)
    gallery.keyboard.press("ArrowRight")
    gallery.keyboard.press("ArrowRight")
    gallery.keyboard.press("ArrowLeft")
    expect(gallery.locator("#grid li button").nth(1)).to_be_focused()
    gallery.keyboard.press("Enter")
    expect(gallery.locator("#detail")).to_be_visible()
    gallery.keyboard.press("ArrowRight")
    expect(gallery.locator("#detail h2")).to_have_text(found[2].partition("/")[2] or found[2])
    gallery.keyboard.press("Escape")
    expect(gallery.locator("#detail")).to_be_hidden()
    expect(gallery.locator("#grid li button").nth(2)).to_be_focused()
    gallery.keyboard.press("End")
    expect(gallery.locator("#grid li button").last).to_be_focused()
    gallery.keyboard.press("ArrowUp")
    expect(gallery.locator("#grid li button").last).not_to_be_focused()
    gallery.keyboard.press("Home")
    expect(tile(gallery, found[0])).to_be_focused()
    # The list is one stop of the tab key, however long it is.
    expect(gallery.locator("#grid button[tabindex='0']")).to_have_count(1)


# The state


def test_an_upload_appears_by_itself(gallery: Page, container: Container) -> None:
    container.upload("new.png", picture("orange"))
    try:
        expect(gallery.locator("#grid li").first).to_contain_text("new.png")
        expect(gallery.locator("#summary")).to_contain_text(f"{len(PICTURES) + 1} pictures")
    finally:
        container.delete("new.png")
        container.wait_for({*PICTURES, *BROKEN})


def test_failures_are_listed_by_code_with_their_names_and_messages(visit: Visit, gallery: Page) -> None:
    visit.expected = ("404", "422")
    expect(gallery.locator("#failed")).to_have_text(str(len(BROKEN)))
    gallery.get_by_role("button", name="State").click()
    panel = gallery.get_by_role("dialog", name="State")
    panel.get_by_text("Damaged image").click()
    expect(panel).to_contain_text("broken/cut off.png")
    panel.get_by_text("Not an image").click()
    expect(panel).to_contain_text("The bytes are not a picture in any supported format.")
    panel.get_by_role("button", name=f"broken/{HTML}").click()
    expect(gallery.locator("#detail h2")).to_have_text(HTML)
    expect(gallery.locator("#facts")).to_contain_text("The bytes are not a picture")


def test_a_backlog_has_its_pace_and_says_when_it_is_done(gallery: Page) -> None:
    def in_the_middle(route: Route) -> None:
        status = route.fetch().json()
        progress = {**status["progress"], "waiting": 6000, "per_minute": 299.6, "done_at": "2026-11-27T12:20:00Z"}
        queues = {**status["queues"], "embedding-requests": 6000}
        route.fulfill(json={**status, "queues": queues, "progress": progress})

    gallery.route("**/api/status", in_the_middle)
    gallery.get_by_role("button", name="State").click()
    numbers = gallery.locator("#numbers")
    expect(numbers).to_contain_text("300 a minute")
    expect(numbers).to_contain_text(re.compile(r"Done about.*2026"))


def test_an_audit_can_be_asked_for_and_says_what_it_found(gallery: Page) -> None:
    gallery.get_by_role("button", name="State").click()
    gallery.get_by_role("button", name="Audit now").click()
    expect(gallery.locator("#audit")).to_contain_text(
        re.compile(rf"{len(PICTURES)} of {len(PICTURES) + len(BROKEN)} pictures current, nothing to do")
    )


def test_an_empty_app_shows_the_command_for_an_upload_with_its_real_names(visit: Visit, running: Stack) -> None:
    page = visit.page
    empty: Any = {"space": "", "results": [], "next": None, "index": {"images": 0, "as_of": None}}

    def on_azure(route: Route) -> None:
        status = route.fetch().json()
        route.fulfill(json={**status, "images_url": "https://account1.blob.core.windows.net/photographs"})

    page.route("**/api/images*", lambda route: route.fulfill(json=empty))
    page.route("**/api/status", on_azure)
    page.goto(f"{running.functions_url}/api/gallery#key={running.functions_key}")
    expect(page.get_by_role("heading", name="No pictures yet")).to_be_visible()
    expect(page.locator("#empty code")).to_have_text(
        "az storage blob upload --auth-mode login --account-name account1 --container-name photographs"
        " --name picture.jpg --file picture.jpg"
    )


# What goes wrong


def test_an_app_that_asks_for_patience_is_asked_again(visit: Visit, gallery: Page) -> None:
    visit.expected = ("503",)
    error = {"error": {"code": "index_loading", "message": "The index is being read."}}
    busy = {"status": 503, "headers": {"retry-after": "1"}, "json": error}
    gallery.route("**/api/search", lambda route: route.fulfill(**busy), times=2)
    search(gallery, "red")
    expect(gallery.locator("#summary")).to_contain_text("The index is being read. Trying again")
    first_is(gallery, "colours/red.png")


def test_an_app_that_fails_can_be_asked_again_by_hand(visit: Visit, gallery: Page) -> None:
    visit.expected = ("502", "ERR_FAILED")
    error = {"error": {"code": "model_misconfigured", "message": "The role is missing."}}
    gallery.route("**/api/search", lambda route: route.fulfill(status=502, json=error), times=1)
    search(gallery, "red")
    expect(gallery.get_by_role("alert")).to_contain_text("The role is missing.")
    gallery.route("**/api/search", lambda route: route.abort(), times=1)
    gallery.get_by_role("button", name="Try again").click()
    expect(gallery.get_by_role("alert")).to_contain_text("The app does not answer.")
    gallery.get_by_role("button", name="Try again").click()
    first_is(gallery, "colours/red.png")
    expect(gallery.locator("#notice")).to_be_hidden()


def test_a_slow_answer_is_seen_to_be_coming(gallery: Page) -> None:
    held: list[Route] = []
    gallery.route("**/api/search", lambda route: held.append(route))
    search(gallery, "red")
    expect(gallery.locator("#coming")).to_be_visible()
    expect(gallery.locator("#summary")).to_contain_text("An app that has been idle takes a moment to start.")
    held[0].continue_()
    first_is(gallery, "colours/red.png")
    expect(gallery.locator("#coming")).to_be_hidden()


# For everybody


@pytest.mark.parametrize("options", [{"viewport": {"width": 360, "height": 740}, "has_touch": True}])
def test_a_phone_s_width_is_enough(gallery: Page) -> None:
    def fits() -> bool:
        return bool(gallery.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    assert fits()
    search(gallery, "red")
    first_is(gallery, "colours/red.png")
    tile(gallery, "colours/red.png").tap()
    expect(gallery.get_by_role("button", name="More like this")).to_be_visible()
    assert fits()
    gallery.locator("#detail .close").tap()
    gallery.get_by_role("button", name="State").tap()
    expect(gallery.get_by_role("button", name="Audit now")).to_be_visible()
    assert fits()
