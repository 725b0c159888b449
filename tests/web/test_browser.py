"""The page in a real browser: what it shows is what bdctl says; it sorts, follows, prints, and needs no JavaScript."""

import base64
import itertools
import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.color import Color
from selenium.webdriver.support.ui import WebDriverWait

from bdserver.audit import page as page_module
from bdserver.audit.snapshot import Snapshot
from tests.unit import crawls

from .conftest import browser_with

# WCAG 2.1 AA for text of this size.
CONTRAST_MIN = 4.5

# Each visible text, its colour, and the colour behind it.
TEXTS = """
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), parent = walker.currentNode.parentElement;
  if (!text || !parent.getClientRects().length || ["SCRIPT", "STYLE"].includes(parent.tagName) || parent.closest(".skip")) continue;
  let ground = parent;
  while (ground && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
  found.push([text.slice(0, 40), getComputedStyle(parent).color, getComputedStyle(ground ?? document.body).backgroundColor]);
}
return found;
"""


@pytest.fixture
def page(browser, apache):
    """The page, loaded."""
    browser.set_window_size(1280, 1000)
    browser.get(apache.url("audit.cgi"))
    return browser


def rows(page, table):
    """The texts of a table's rows."""
    return [[cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")]
            for row in page.find_elements(By.CSS_SELECTOR, f"#{table} tbody tr")]  # fmt: skip


def test_it_shows_what_bdctl_says(page, world):
    nodes = {node["name"]: node for node in world.beta.ctl("nodes")}
    shown = {row[0].split("\n")[0]: row for row in rows(page, "nodes-table")}
    assert shown.keys() == nodes.keys()
    for name, row in shown.items():
        assert row[0].split("\n")[1] == nodes[name]["address"]
        assert row[1].split()[0] == nodes[name]["status"]
        for service in nodes[name]["services"]:
            assert service in row[4]
    services = {row[0]: row for row in rows(page, "services-table")}
    told = world.beta.ctl("services")
    assert services.keys() == told.keys()
    for name, places in told.items():
        assert services[name][7] == ", ".join(sorted(place["node"] for place in places))
        assert int(services[name][5]) == sum(place["type"] == "static" for place in places)
        assert services[name][1] == str(len(places))
    status = world.beta.ctl("status")
    assert f"of {status['receiver_threshold']:g}" in shown["beta"][2] and status["software"] == shown["beta"][7]


def test_what_is_wrong_stands_on_top(page):
    assert "delta: dead" in page.find_element(By.CSS_SELECTOR, ".attention").text
    assert "3 of 4 nodes answered" in page.find_element(By.TAG_NAME, "header").text


def test_policies_are_shown_with_what_they_have_in_common(page):
    cells = [cell.text for cell in page.find_elements(By.CSS_SELECTOR, "#policies + p + div code")]
    assert "(datacentre) V (office)" in cells and "(office)" in cells and "NULL" in cells


def test_a_table_sorts_by_its_heads_and_remembers_it(page):
    def heads():
        return page.find_elements(By.CSS_SELECTOR, "#nodes-table thead th")

    def names():
        return [row[0].split("\n")[0] for row in rows(page, "nodes-table")]

    assert names() == ["alpha", "beta", "delta", "gamma"]
    heads()[0].find_element(By.TAG_NAME, "button").click()
    assert names() == ["alpha", "beta", "delta", "gamma"] and heads()[0].get_attribute("aria-sort") == "ascending"
    heads()[0].find_element(By.TAG_NAME, "button").click()
    assert names() == ["gamma", "delta", "beta", "alpha"] and heads()[0].get_attribute("aria-sort") == "descending"
    page.refresh()
    assert names() == ["gamma", "delta", "beta", "alpha"]
    heads()[1].find_element(By.TAG_NAME, "button").click()
    assert names()[-1] == "delta", "sorted by state: alive before dead"
    page.execute_script("sessionStorage.clear()")


def test_a_service_link_leads_to_the_service(page, world):
    page.find_element(By.CSS_SELECTOR, "#nodes-table").find_element(By.LINK_TEXT, "TimeOfDay").click()
    WebDriverWait(page, 30).until(lambda page: "axis/TimeOfDay" in page.current_url)
    assert "definitions" in page.page_source


def test_the_page_of_a_service_shows_what_bdctl_says(page, world):
    page.find_element(By.CSS_SELECTOR, "#services-table").find_element(By.LINK_TEXT, "TimeOfDay").click()
    WebDriverWait(page, 30).until(lambda page: page.current_url.endswith("?service=TimeOfDay"))
    assert page.find_element(By.TAG_NAME, "h1").text == "The service TimeOfDay"
    told = world.beta.ctl("services", "TimeOfDay")
    shown = {row[0].split("\n")[0]: row for row in rows(page, "holders-table")}
    assert shown.keys() == {each["node"] for each in told["holders"]}
    for each in told["holders"]:
        row = shown[each["node"]]
        assert row[1] == ("original" if each["type"] == "static" else f"copy of {each['original']}")
        assert row[3] == (each["edition"][1] or "none") and row[8] == each["url"]
    assert page.find_element(By.CSS_SELECTOR, ".well, .attention")
    assert [entry for entry in page.get_log("browser") if "favicon" not in entry["message"]] == []
    page.find_element(By.LINK_TEXT, "The mesh web").click()
    WebDriverWait(page, 30).until(lambda page: page.find_elements(By.ID, "nodes-table"))


def test_the_pictures_are_whole_and_have_words_and_links(page):
    picture = page.find_element(By.CSS_SELECTOR, "svg.picture")
    assert picture.size["width"] > 300 and "1 dead" in picture.get_attribute("aria-label")
    assert {"?node=alpha", "?service=TimeOfDay"} <= {
        each.get_dom_attribute("href") for each in picture.find_elements(By.TAG_NAME, "a")
    }
    bars = page.find_elements(By.CSS_SELECTOR, ".weights svg.bar[aria-label]")
    assert [each.get_attribute("aria-label").partition(":")[0] for each in bars] == ["alpha", "beta", "delta", "gamma"]
    assert all(each.size["width"] > 200 for each in bars)
    page.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))",
                        picture.find_element(By.CSS_SELECTOR, "a[href='?node=alpha']"))  # fmt: skip
    WebDriverWait(page, 30).until(lambda page: page.current_url.endswith("?node=alpha"))
    assert [entry for entry in page.get_log("browser") if "favicon" not in entry["message"]] == []


def test_it_refreshes_itself_if_asked(page, apache):
    assert apache.get("audit.cgi?refresh=5")[1]["Refresh"] == "5" and apache.get("audit.cgi")[1]["Refresh"] is None
    page.get(apache.url("audit.cgi?refresh=5"))
    taken = page.find_element(By.TAG_NAME, "time").text
    WebDriverWait(page, 60).until(lambda page: page.find_element(By.TAG_NAME, "time").text != taken)


def test_each_link_of_the_page_leads_somewhere(page, apache):
    links = {link.get_attribute("href") for link in page.find_elements(By.CSS_SELECTOR, "nav a")}
    assert len(links) == 6
    for link in links:
        assert apache.get(link.partition("/bdserver/")[2])[0] == 200


def test_nothing_was_refused_or_failed_in_the_browser(page):
    assert [entry for entry in page.get_log("browser") if "favicon" not in entry["message"]] == []


# --- for everybody ------------------------------------------------------------------------------------------------


def test_headings_and_tables_tell_their_structure(page):
    assert len(page.find_elements(By.TAG_NAME, "h1")) == 1 and page.title
    assert page.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    levels = [int(each.tag_name[1]) for each in page.find_elements(By.CSS_SELECTOR, "h1, h2, h3")]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(page.find_elements(By.TAG_NAME, "main")) == 1
    for table in page.find_elements(By.TAG_NAME, "table"):
        heads = table.find_elements(By.CSS_SELECTOR, "thead th")
        assert heads and all(head.get_attribute("scope") == "col" and head.text for head in heads)
        assert all(
            len(row.find_elements(By.CSS_SELECTOR, "th[scope=row]")) <= 1
            for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")
        )
    identities = [each.get_attribute("id") for each in page.find_elements(By.CSS_SELECTOR, "[id]")]
    assert len(identities) == len(set(identities))


def test_whatever_can_be_reached_has_a_name(page):
    for each in page.find_elements(By.CSS_SELECTOR, "a, button, [tabindex], nav, img, meter"):
        name = each.accessible_name or each.get_attribute("textContent").strip()
        assert name, each.get_attribute("outerHTML")[:200]


def luminance(colour):
    parts = [int(colour.hex[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrasts(page):
    """The ratio of contrast of each text."""
    for text, ink, ground in page.execute_script(TEXTS):
        light, dark = sorted((luminance(Color.from_string(ink)), luminance(Color.from_string(ground))), reverse=True)
        yield text, (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_a_services_page_stands_out_from_its_ground(page, apache, scheme):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        page.get(apache.url("audit.cgi?service=TimeOfDay"))
        ratios = list(contrasts(page))
        assert len(ratios) > 30 and [(text, round(ratio, 1)) for text, ratio in ratios if ratio < CONTRAST_MIN] == []
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(page, scheme):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        ratios = list(contrasts(page))
        assert len(ratios) > 50
        assert [(text, round(ratio, 1)) for text, ratio in ratios if ratio < CONTRAST_MIN] == []
        ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (luminance(Color.from_string(ground)) < 0.1) == (scheme == "dark")
        drawn = page.execute_script("return getComputedStyle(document.querySelector('svg.picture polygon')).fill")
        assert drawn == ground, "the picture is for the same scheme"
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("query", ["", "?service=TimeOfDay"])
@pytest.mark.parametrize("width", [360, 768, 1600])
def test_on_any_screen_only_tables_and_pictures_scroll_sideways(page, apache, width, query):
    page.get(apache.url(f"audit.cgi{query}"))
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": width < 500}
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert page.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [360, 1024, 1600])
def test_the_longest_names_are_shown_to_their_ends_and_make_nothing_wider(browser, tmp_path, width):
    """Names of one site are told apart by how they end."""
    snapshot, long, service = made_with_long_names()
    pages = (
        page_module.render(snapshot, 0, 20),
        page_module.render_node(snapshot, long),
        page_module.render_service(snapshot, service),
    )
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    )
    try:
        for html in pages:
            (tmp_path / "page.html").write_text(html)
            browser.get(f"file://{tmp_path}/page.html")
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            cut = "return [...document.querySelectorAll('.weights .name, dd, h1')].filter(each => each.scrollWidth > each.clientWidth)"
            assert not browser.execute_script(f"{cut}.map(each => each.textContent)")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def made_with_long_names():
    """(a mesh of two nodes, one of the two names, that of their service), all as long as names may be."""
    names, service = ["n" * 99 + "1", "n" * 99 + "2"], "S" * 100
    offer = crawls.Offer("static", 20.0, 1.0, True, f"http://10.0.0.1:8080/axis/{service}?wsdl")
    made = crawls.mesh(2)
    statuses = {name: crawls.status(name, number, {service: offer}, 20.0) for number, name in enumerate(names)}
    sights = {name: {other: crawls.sight(other, number) for number, other in enumerate(names)} for name in names}
    hearsay = dict(zip(names, made.hearsay.values(), strict=True))
    return Snapshot(made._replace(entry=names[0], statuses=statuses, sights=sights, hearsay=hearsay)), names[0], service


def test_it_prints(page):
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.startswith(b"%PDF") and 1 <= pdf.count(b"/Type /Page\n") <= 8


def test_without_javascript_everything_is_there(apache, lighttpd, world):
    with browser_with(javascript=False) as plain:
        for server in (apache, lighttpd):
            plain.get(server.url("audit.cgi"))
            assert not plain.find_elements(By.CSS_SELECTOR, "th button"), "JavaScript is off"
            shown = [row.text for row in plain.find_elements(By.CSS_SELECTOR, "#nodes-table tbody th")]
            assert [text.split("\n")[0] for text in shown] == ["alpha", "beta", "delta", "gamma"]
            assert plain.find_elements(By.CSS_SELECTOR, "svg.picture") and plain.find_elements(
                By.CSS_SELECTOR, ".weights svg.bar"
            )
        plain.get(apache.url("audit.cgi?service=TimeOfDay"))
        assert plain.find_elements(By.CSS_SELECTOR, "#holders-table tbody tr") and "What the words mean" in plain.page_source
        plain.get(apache.url("audit.cgi?format=json"))
        assert json.loads(plain.find_element(By.TAG_NAME, "body").text)["mesh"] == "web"
