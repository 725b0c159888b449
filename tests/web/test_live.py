"""The page that keeps itself up to date, in a real browser: what changes is changed where it stands, and nothing else is lost.

The mesh is made up, so that it has as many nodes as wanted and changes when a test wants it to; the page is served by
the gateway's application, or plainly, as a CGI program does.
"""

import socketserver
import threading
import time
import wsgiref.simple_server

import pytest
import waitress.server
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from bdserver.audit import app
from bdserver.core import messages
from bdserver.gateway.follower import Follower
from bdserver.gateway.http import Gateway
from tests.unit import crawls

from .test_browser import CONTRAST_MIN, contrasts

SECONDS = 30
TYPING_SECONDS = 0.1


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    """Says nothing."""

    def log_message(self, *arguments):
        """Nothing."""


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """A browser opens connections ahead, and says nothing on them."""

    daemon_threads = True


class Made:
    """A mesh that a test makes up and changes; `asked` counts who looked at it, `watched` who is told each change from now on."""

    def __init__(self):
        self.crawl, self.asked, self.nodes, self.is_silent, self.watched = crawls.mesh(12), 0, [], False, 0

    def take(self, about):
        """A look at it."""
        self.asked += 1
        if self.is_silent:
            raise app.BDError("nobody is there")
        return self.crawl._replace(taken_at=time.time())

    def status(self):
        """What the gateway's follower sees."""
        return messages.Status({}, self.nodes)

    def say(self, name, status):
        """The follower sees a node so."""
        seen = {
            "name": name,
            "address": "10.0.0.1:1",
            "status": status,
            "version": [1, 1],
            "services": [],
            "types": {},
            "urls": {},
        }
        self.nodes = [{**seen, "draining": False, "load": 0}]


@pytest.fixture
def made():
    return Made()


@pytest.fixture
def plainly(made):
    """Its page as a CGI program would answer it."""
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app.application(made.take), Server, Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


class Following(Follower):
    """That counts who begins to watch."""

    def __init__(self, made):
        super().__init__(lambda: None, made.status)
        self.made = made

    def state(self):
        """What a watcher begins with."""
        known = super().state()
        self.made.watched += 1
        return known


@pytest.fixture
def by_gateway(made):
    """Its page as bdgateway has it."""
    follower, stop = Following(made), threading.Event()
    gateway = made.gateway = Gateway(None, follower, audit=app.application(made.take, watch="v1/watch"))
    server = waitress.server.create_server(gateway, host="127.0.0.1", port=0, threads=8)
    threads = [
        threading.Thread(target=server.run, daemon=True),
        threading.Thread(target=follower.run, args=(stop,), daemon=True),
    ]
    made.say("n001", "alive")
    for thread in threads:
        thread.start()
    yield f"http://127.0.0.1:{server.effective_port}/"
    gateway.stop.set()
    stop.set()
    server.close()


@pytest.fixture
def open_at(browser):
    """Opens a page; what it keeps for the tab is gone afterwards."""

    def go(url, width=1280, height=900):
        browser.set_window_size(width, height)
        browser.get(url)
        return browser

    yield go
    browser.execute_script("sessionStorage.clear()")
    browser.get("about:blank")
    browser.get_log("browser")  # what went wrong here on purpose is nobody else's


def until(page, what, seconds=SECONDS):
    """Waits until a script's value is true."""
    WebDriverWait(page, seconds, 0.1).until(lambda page: page.execute_script(f"return {what}"))


def shown(page, table="nodes-table"):
    """The keys of the rows that are not hidden."""
    return page.execute_script(
        "return [...document.getElementById(arguments[0]).tBodies[0].rows].filter(row => !row.hidden).map(row => row.dataset.key)",
        table,
    )


def test_a_change_is_told_by_an_event_and_shown_without_a_reload(made, by_gateway, open_at):
    page = open_at(by_gateway)
    WebDriverWait(page, SECONDS).until(lambda page: made.watched)
    page.execute_script("window.isTheSame = true; schedule(600_000)")  # it does not look by itself
    asked = made.asked
    made.crawl = crawls.mesh(12, dead=[1])
    made.say("n001", "dead")
    until(page, "document.querySelector('.attention')?.textContent.includes('n001')")
    assert page.execute_script("return window.isTheSame") and made.asked > asked
    assert page.find_element(By.CSS_SELECTOR, "tr[data-key=n001] .bad").text == "dead"
    assert [entry for entry in page.get_log("browser") if "favicon" not in entry["message"]] == []


def test_place_focus_selection_open_details_order_and_search_stay(made, plainly, open_at):
    made.crawl = crawls.mesh(60, dead=range(5, 55, 5), overloaded=range(6, 40))
    page = open_at(plainly, 1280, 700)
    find = page.find_element(By.NAME, "find")
    find.send_keys("n00")
    page.find_element(By.CSS_SELECTOR, "#nodes-table thead button").click()
    page.find_element(By.CSS_SELECTOR, "#nodes-table thead button").click()  # z to a
    order = shown(page)
    assert order == [f"n00{k}" for k in range(9, -1, -1)]
    find.click()
    page.execute_script("""
        const text = document.querySelector("tr[data-key=n007] small").firstChild;
        document.querySelector("tr[data-key=n007]").scrollIntoView({block: "center"});
        getSelection().selectAllChildren(text.parentNode);
        for (const each of document.querySelectorAll("details")) each.open = true;
        window.kept = {text, row: document.querySelector("tr[data-key=n007]"), top: scrollY};
    """)
    made.crawl = crawls.mesh(60, dead=[*range(5, 55, 5), 3, 57], overloaded=range(6, 40))
    before = made.asked
    until(page, "document.querySelector('tr[data-key=n003]').dataset.state.startsWith('dead')")
    assert made.asked > before and shown(page) == order
    assert page.execute_script("return getSelection().toString()") == "10.0.0.7:9001"
    assert page.execute_script(
        "return window.kept.row === document.querySelector('tr[data-key=n007]') && window.kept.text.isConnected"
    )
    assert abs(page.execute_script("return scrollY - window.kept.top")) < 80
    assert page.execute_script("return [...document.querySelectorAll('details')].every(each => each.open)")
    assert page.find_element(By.NAME, "find").get_attribute("value") == "n00"
    assert page.execute_script("return document.querySelector('#nodes-table th').getAttribute('aria-sort')") == "descending"
    made.crawl = crawls.mesh(59)
    until(page, "!document.querySelector('tr[data-key=n059]')")
    assert "All is well" in page.find_element(By.CSS_SELECTOR, ".well").text


def test_it_says_when_nobody_answers_and_goes_on_when_somebody_does(made, plainly, open_at):
    page = open_at(plainly)
    made.is_silent = True
    until(page, "document.getElementById('live-state').textContent.includes('nobody is there')")
    assert page.find_elements(By.CSS_SELECTOR, "#nodes-table tbody tr"), "what was known stays"
    made.is_silent = False
    until(page, "document.getElementById('live-state').textContent.startsWith('Live')")


def test_when_its_server_is_back_it_looks_at_once(made, by_gateway, open_at):
    page = open_at(by_gateway)
    until(page, "live.source?.readyState === EventSource.OPEN")
    page.execute_script("live.failures = 4; schedule(600_000); live.source.dispatchEvent(new Event('open'))")
    until(page, "live.failures === 0")


def test_when_its_server_is_gone_it_does_not_say_for_long_that_it_is_live(made, by_gateway, open_at):
    page = open_at(by_gateway)
    until(page, "live.source?.readyState === EventSource.OPEN")
    page.execute_script("schedule(600_000); window.fetch = () => Promise.reject(new TypeError('gone'))")
    made.gateway.stop.set()  # the stream ends, and the next one at once
    until(page, "document.getElementById('live-state').textContent.includes('the server does not answer')")


def test_where_there_was_no_room_for_it_it_listens_as_soon_as_there_is(made, by_gateway, open_at):
    places, taken = made.gateway.watchers, 0
    while places.acquire(blocking=False):
        taken += 1
    page = open_at(by_gateway)
    until(page, "live.source === null")
    for _ in range(taken):
        places.release()
    until(page, "live.source?.readyState === EventSource.OPEN")


def test_it_pauses_and_remembers_that(made, plainly, open_at):
    page = open_at(plainly)
    page.find_element(By.CSS_SELECTOR, "#live-state button").click()
    assert page.find_element(By.ID, "live-state").text == "Paused go on"
    page.refresh()
    assert page.find_element(By.ID, "live-state").text == "Paused go on"
    asked = made.asked
    page.find_element(By.CSS_SELECTOR, "#live-state button").click()
    until(page, "document.getElementById('live-state').textContent.startsWith('Live')")
    WebDriverWait(page, SECONDS).until(lambda page: made.asked > asked)


@pytest.fixture(scope="module")
def many():
    """300 nodes, some of them not well."""
    policies = [crawls.document("office"), crawls.document("centre")]
    return crawls.mesh(300, dead=[3, 33], suspect=[4], silent=[6], overloaded=[2], policies=policies)


def test_rows_are_found_at_each_key_among_300(made, many, plainly, open_at):
    made.crawl = many
    page = open_at(plainly)
    find = page.find_element(By.NAME, "find")
    find.send_keys("n29")
    assert shown(page) == [f"n{k}" for k in range(290, 300)]
    assert page.find_element(By.ID, "found").text.startswith("10 of 300 nodes")
    find.send_keys(Keys.BACKSPACE, Keys.BACKSPACE, Keys.BACKSPACE)
    assert len(shown(page)) == 300
    page.find_element(By.CSS_SELECTOR, "[name=state] option[value=attention]").click()
    assert shown(page) == ["n002", "n003", "n004", "n006", "n033"]
    page.find_element(By.CSS_SELECTOR, "[name=zone] option:nth-child(3)").click()
    assert shown(page) == ["n003", "n033"], "of the second policy"
    assert "state=attention" in page.current_url
    page.refresh()
    assert shown(page) == ["n003", "n033"], "its address tells what was wished for"
    page.find_element(By.CSS_SELECTOR, "#filter a").click()
    assert len(shown(page)) == 300 and "?" not in page.current_url
    best = page.execute_script("""
        const times = [];
        for (const words of ["n", "n1", "n12", "orders", "", "10.0", "dead", ""]) {
          form.elements.find.value = words;
          const began = performance.now();
          filter();
          document.getElementById("nodes-table").offsetHeight;
          times.push(performance.now() - began);
        }
        return Math.min(...times) / 1000;
    """)
    assert best < TYPING_SECONDS


def pages_of(crawl):
    """The address of a page of each kind."""
    service = max(next(iter(crawl.statuses[name].services), "") for name in crawl.statuses)
    return ["", "?node=n002", "?node=n003", f"?service={service}"]


@pytest.mark.parametrize("count", [1, 12, 60, 300])
@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_is_cut_off_at_any_width(made, plainly, open_at, width, count):
    many = {"dead": [3], "suspect": [4], "silent": [6], "overloaded": [2]} if count > 1 else {}
    made.crawl = crawls.mesh(count, **many)
    for query in pages_of(made.crawl) if count > 1 else ["", "?node=n000"]:
        page = open_at(plainly + query)
        page.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": width < 500}
        )
        try:
            assert page.execute_script("return document.documentElement.scrollWidth") <= width, query
            if width == 360:
                cut = page.execute_script(
                    "return [...document.querySelectorAll('table.cards')].filter(each => each.scrollWidth > each.parentNode.clientWidth).length"
                )
                assert cut == 0, query
                narrow = page.execute_script(
                    "return [...document.querySelectorAll('.cards meter')].filter(each => each.offsetWidth < 150).length"
                )
                assert narrow == 0, "bars of weight are legible"
        finally:
            page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_first_screen_has_what_matters_side_by_side(made, plainly, open_at):
    made.crawl = crawls.mesh(12, dead=[3], suspect=[4], silent=[6], overloaded=[2])
    page = open_at(plainly)
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1600, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        boxes = page.execute_script("""
            return Object.fromEntries(["totals", "attention", "weight", "topology"].map(
              (name) => [name, document.querySelector(`.at-${name}`).getBoundingClientRect().toJSON()]));
        """)
        assert all(box["bottom"] <= 1000 for box in boxes.values()), boxes
        assert (
            boxes["topology"]["left"] > boxes["weight"]["right"] - 1 and boxes["attention"]["top"] == boxes["topology"]["top"]
        )
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(made, plainly, open_at, scheme):
    made.crawl = crawls.mesh(12, dead=[3], suspect=[4], silent=[6], overloaded=[2])
    for query in pages_of(made.crawl):
        page = open_at(plainly + query)
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        try:
            assert [(text, round(ratio, 1)) for text, ratio in contrasts(page) if ratio < CONTRAST_MIN] == []
        finally:
            page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_search_is_a_form_where_there_is_no_script(made, plainly):
    from .conftest import browser_with

    made.crawl = crawls.mesh(12, dead=[3])
    with browser_with(javascript=False) as page:
        page.get(plainly)
        page.find_element(By.NAME, "find").send_keys("n01")
        page.find_element(By.CSS_SELECTOR, "#filter button").click()
        WebDriverWait(page, SECONDS).until(lambda page: "find=n01" in page.current_url)
        rows = page.find_elements(By.CSS_SELECTOR, "#nodes-table tbody tr")
        assert [row.get_attribute("data-key") for row in rows if row.is_displayed()] == ["n010", "n011"]
        assert page.find_element(By.LINK_TEXT, "every 5 s").is_displayed()


@pytest.fixture
def phone(browser):
    """The browser's window is that of a telephone."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 780, "deviceScaleFactor": 2, "mobile": True}
    )
    yield
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_card_is_a_row_to_a_screen_reader_and_sorts_by_the_keyboard(made, plainly, open_at, phone):
    page = open_at(plainly)
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    said = {}
    for node in nodes:
        said.setdefault(node.get("role", {}).get("value"), []).append(node.get("name", {}).get("value", ""))
    assert len(said["table"]) >= 4 and len(said["row"]) >= 12 and len(said["cell"]) >= 12 * 8
    assert any("certificate" in each for each in said["columnheader"]) and any("n004" in each for each in said["rowheader"])
    heads = page.find_elements(By.CSS_SELECTOR, "#nodes-table thead button")
    page.execute_script("arguments[0].focus()", heads[0])
    for head in heads[1:]:
        page.switch_to.active_element.send_keys(Keys.TAB)
        assert page.switch_to.active_element == head
        box = page.execute_script("return arguments[0].getBoundingClientRect().toJSON()", head)
        assert box["left"] >= 0 and box["right"] <= 360, "what has the focus is seen"
    head = heads[2]
    head.send_keys(Keys.ENTER)
    head.send_keys(Keys.ENTER)
    assert shown(page)[0] == max(made.crawl.statuses, key=lambda name: made.crawl.statuses[name].weight)


def test_hundreds_of_nodes_and_services_are_a_page_of_a_few_screens(made, many, plainly, open_at, phone):
    made.crawl = many._replace(statuses=dict(many.statuses))
    offer = crawls.offers(1, 5.0)["Search"]
    made.crawl.statuses["n001"] = crawls.status("n001", 1, {f"S{number:03}": offer for number in range(300)}, 5.0)
    page = open_at(plainly)
    height = page.execute_script("return document.documentElement.scrollHeight")
    assert height < 16 * 780, height
    for table in ("nodes-table", "services-table"):
        head_at, rows_at = page.execute_script(
            """
            const table = document.getElementById(arguments[0]), box = table.parentNode;
            box.scrollTop = 3000;
            return [table.tHead.getBoundingClientRect().top - box.getBoundingClientRect().top, box.scrollTop];
            """,
            table,
        )
        assert abs(head_at) < 2 and rows_at == 3000, "its heads stay in sight"
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        until(page, "[...document.querySelectorAll('.tall')].every(each => each.clientHeight === each.scrollHeight)")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
