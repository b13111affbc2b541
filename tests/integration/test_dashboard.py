"""The dashboard in a real Chromium, beside a pair that runs and is asked for real."""

import http.client
import re
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from smartstack.instance import MAINTENANCE_LABEL, Instance, encode, node_name
from smartstack.registry.protocol import NodeId
from synapse.cli.figures import rate_text, success_text, time_text
from tests.support.browser import Browser, browser
from tests.support.eventually import eventually
from tests.support.pair import Host

__all__ = ["browser"]

DASH = "\N{EN DASH}"
HOSTILE = "<img src=x onerror=alert(1)>"
LONG = "a-service-with-a-name-as-long-as-the-alphabet-of-names-allows-which-somebody-has-of-course"
PAGES = ("", "service/web", "topology", "events", "health")
LOOKS = ((1280, "light"), (360, "dark"))
MARKS = {
    "": "Services: 4",
    "service/web": "Who called web",
    "topology": "Every edge of the last minute",
    "events": "synapse started",
    "health": "smartstack-",
}
"""What a page says when it has everything."""


@pytest.fixture(scope="module")
def serving() -> Iterator[Host]:
    """A host that serves web, api and a service that is only to be found; frontdoor calls web, and web calls api."""
    host = Host()
    host.settings["fleet"] = {"listen": f"{host.address}:3201"}
    host.serve("web", 3210)
    host.serve("api", 3211, instances=2)
    host.serve(LONG, 3212, instances=1)
    host.write("services/directory.yaml", '{"port": 8080, "check": {"type": "tcp"}}')
    host.join("directory", 9)
    bad = Instance(host=host.instance(4).host, port=8080, name="h4", weight=0, labels=((MAINTENANCE_LABEL, HOSTILE),))
    host.writer.put(NodeId(path="services/web", node=node_name(bad)), encode(bad))
    host.start()
    eventually(lambda: len(host.told("web")["instances"]) == 4)
    for number in range(30):
        assert ask(host, 3210, "frontdoor", f"/users/{number}") == 200
    for _ in range(10):
        assert ask(host, 3211, "web", "/items") == 200
    eventually(lambda: row(host, "web")["requests"] >= 30 and row(host, "api")["requests"] >= 10)
    yield host
    host.close()


@pytest.fixture
def page(serving: Host, browser: Browser) -> Browser:
    """The browser in front of that host's dashboard, as wide as a desk's, with a clean console."""
    browser.base = f"http://{serving.admin}"
    browser.size(1280)
    browser.complaints()
    browser.hosts_asked()
    return browser


def ask(host: Host, port: int, source: str, path: str) -> int:
    """The status of one request of this caller."""
    connection = http.client.HTTPConnection(host.address, port, timeout=10)
    try:
        connection.request("GET", path, headers={"X-Smartstack-Source": source})
        return connection.getresponse().status
    finally:
        connection.close()


def go(page: Browser, path: str) -> None:
    """Another page, as a link leads there: nothing is loaded anew."""
    page.driver.execute_script("location.hash = arguments[0]", f"#/{path}")


def call(page: Browser, module: str, function: str, *arguments: object) -> Any:
    """What a function of one of the dashboard's modules answers in this browser."""
    if not page.driver.current_url.startswith(page.base):
        page.open("health")
    script = """
        const [module, name, given, done] = arguments;
        import(`/dashboard/${module}`).then((there) => done(there[name](...given)), (error) => done(String(error)));"""
    return page.driver.execute_async_script(script, module, function, list(arguments))


def row(host: Host, service: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = host.synapse.get("/telemetry/stat?window=60").json()["rows"]
    return next(each for each in rows if each["service"] == service)


@pytest.mark.parametrize("name", PAGES, ids=[name or "services" for name in PAGES])
def test_every_page_in_every_look(page: Browser, serving: Host, name: str) -> None:
    """Wide and light, on a phone and dark: it has what it should, nothing complains, nobody else is asked, no page
    rolls sideways, and where there is room no table does. A picture of each is kept."""
    if name == "topology":
        ask(serving, 3211, "web", "/items")
        ask(serving, 3212, "web", "/items")
    page.open(name)
    for width, scheme in LOOKS:
        page.size(width, scheme)
        eventually(lambda: MARKS[name] in page.text(), within=15)
        eventually(lambda: "asking" not in page.text(), within=15)
        wide, seen = page.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide <= seen == width
        if width > 1000:
            script = (
                "return [...document.querySelectorAll('.rolls')].filter((one) => one.scrollWidth > one.clientWidth)"
            )
            assert page.driver.execute_script(script) == []
        page.picture(f"{name.replace('/', '-') or 'services'}-{width}-{scheme}")
    assert page.complaints() == []
    assert page.hosts_asked() == {serving.admin}


def test_the_numbers_are_those_of_synapse_stat(page: Browser, serving: Host) -> None:
    """What a person reads in the browser is what `synapse stat` prints, of this host and of the fleet."""
    page.open("")
    printed: dict[str, set[tuple[str, ...]]] = {"web": set(), "api": set()}

    def agree(service: str) -> bool:
        # The page asks now and then, and a rate is of its moment: what it shows has been printed a moment ago.
        told = row(serving, service)
        texts = success_text(told["success_rate"]), rate_text(told["rate"]), time_text(told["p99_ms"])
        printed[service].add(texts)
        shown = page.row("Services", service)
        assert told["requests"] >= 10
        assert (shown["success"], shown["req/s"], shown["p99"]) in printed[service]
        return True

    for _ in range(20):
        ask(serving, 3211, "web", "/items")
    for service, up in (("web", "▲ 3/4"), ("api", "2/2")):
        eventually(lambda service=service: agree(service), within=20)  # type: ignore[misc]
        assert page.row("Services", service)["up"] == up
    page.driver.find_element(By.CSS_SELECTOR, "fieldset label:last-of-type input").click()
    eventually(lambda: "of the fleet" in page.text("caption") and agree("web"), within=20)


def test_what_is_not_known_is_no_zero(page: Browser, serving: Host) -> None:
    """Nobody counts the requests of a service without the proxy: its figures are dashes, and its page has none."""
    page.open("")
    shown = eventually(lambda: page.row("Services", "directory"), within=10)
    assert [shown[column] for column in ("success", "req/s", "p50", "p99", "up")] == [*[DASH] * 4, "1/1"]
    page.open("service/directory")
    eventually(lambda: "discovery only" in page.text() and "1 of 1" not in page.text(), within=10)
    assert "Live requests" not in page.text()
    page.open("service/nobody")
    eventually(lambda: "No service of this name" in page.text(), within=10)
    assert page.complaints() == []


def test_a_service_and_who_calls_it(page: Browser, serving: Host) -> None:
    """Its instances with their state and why, its callers, and whom it calls; what strangers wrote stays text."""
    ask(serving, 3210, "frontdoor", "/users/1")
    ask(serving, 3211, "web", "/items")
    page.open("service/web")
    drained = serving.instance(4).address
    shown = eventually(lambda: page.row("Instances", drained), within=10)
    assert shown["state"] == "▲ draining"
    assert HOSTILE in shown["why"]
    assert page.driver.find_elements(By.CSS_SELECTOR, "main img") == []
    assert page.row("Instances", serving.instance(1).address)["state"] == "● serving"
    eventually(lambda: page.row("Who called web", "frontdoor")["known by"] == "header", within=10)
    eventually(lambda: page.row("Whom web called", "api")["success"] == "100.00%", within=10)


def test_the_tap_shows_a_request(page: Browser, serving: Host) -> None:
    """A request that is made while somebody listens is there, one that the filter leaves out is not; nothing comes
    after the end."""
    page.open("service/web")
    path = eventually(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#tap input")[0], within=10)
    path.send_keys("/wanted")
    page.driver.find_element(By.CSS_SELECTOR, "#tap button[type=submit]").click()
    eventually(lambda: "listening" in page.text("#tap"), within=10)

    def heard() -> bool:
        # The first question opens the tap, and only what ends after that is told.
        ask(serving, 3210, "frontdoor", "/other/1")
        ask(serving, 3210, "frontdoor", "/wanted/1?x=1")
        return "GET /wanted/1" in page.text("#tap")

    eventually(heard, within=15)
    assert "/other/1" not in page.text("#tap")
    shown = page.text("#tap tbody tr")
    assert "frontdoor" in shown
    assert "200" in shown
    page.driver.find_element(By.CSS_SELECTOR, "#tap button[type=button]").click()
    eventually(lambda: "Stop" not in page.text("#tap"))
    assert page.complaints() == []


def test_the_graph_shows_the_edges(page: Browser, serving: Host) -> None:
    """Exactly the edges that there are, each from the caller to the callee; of the fleet, and of this host for who
    wants those."""
    told = serving.synapse.get("/telemetry/edges?window=60").json()["edges"]
    wanted = {f"{each['source']} to {each['service']}" for each in told}
    assert wanted >= {"frontdoor to web", "web to api"}
    page.open("topology")

    def titles() -> set[str]:
        script = "return [...document.querySelectorAll('.edge title')].map((title) => title.textContent.split(':')[0])"
        return set(page.driver.execute_script(script))

    eventually(lambda: titles() == wanted, within=10)
    assert "by 1 of 1 hosts" in page.text()
    page.driver.find_element(By.CSS_SELECTOR, "fieldset label:first-of-type input").click()
    eventually(lambda: "hosts" not in page.text() and titles() == wanted, within=10)
    # What calls is to the left of what it calls.
    script = """return [...document.querySelectorAll('.node')].map((node) =>
        [node.querySelector('.name').textContent, node.getBoundingClientRect().left])"""
    left = dict(page.driver.execute_script(script))
    assert left["frontdoor"] < left["web"] < left["api"]
    page.driver.find_element(By.CSS_SELECTOR, "a.node").send_keys(Keys.ENTER)
    eventually(lambda: page.text("h1").split()[0] in ("web", "api", LONG))


def test_an_event_comes_by_itself(page: Browser, serving: Host) -> None:
    """An instance that joins while the page is open stands there, the newest first."""
    page.open("events")
    eventually(lambda: "synapse started" in page.text(), within=10)
    instance = serving.join("api", 5)
    eventually(lambda: f"{instance.address} joined" in page.text("tbody tr"), within=10)
    serving.leave("api", 5)
    eventually(lambda: f"{instance.address} left" in page.text("tbody tr"), within=10)


def test_by_keyboard_alone(page: Browser, serving: Host) -> None:
    """The first stop leads past the navigation; a service's page is reached with Tab and Enter, and begins at its
    top."""
    page.open("")
    eventually(lambda: page.row("Services", "web"), within=10)
    page.press(Keys.TAB)
    assert page.driver.switch_to.active_element.text == "Skip to the page"
    page.press(Keys.ENTER)
    assert page.driver.switch_to.active_element.get_attribute("id") == "main"
    page.tab_to("web")
    page.press(Keys.ENTER)
    eventually(lambda: page.text("h1").startswith("web"))
    assert page.driver.switch_to.active_element.get_attribute("id") == "main"
    assert page.driver.title.startswith("web ")


def test_a_synapse_that_restarts_under_an_open_page(page: Browser, serving: Host) -> None:
    """The figures of before stay, with a word that they are of before, and a page that is opened meanwhile says that
    nothing is known; both come back by themselves."""
    page.open("")
    eventually(lambda: page.row("Services", "web"), within=10)
    serving.synapse.stop()
    try:
        eventually(lambda: "synapse does not answer; what is shown is of" in page.text(), within=15)
        assert page.row("Services", "web")["up"] == "▲ 3/4"
        eventually(lambda: page.text(".well") == "✕ synapse does not answer", within=10)
        go(page, "events")
        eventually(lambda: "not known" in page.text("tbody"), within=10)
    finally:
        serving.synapse.start()
    eventually(lambda: "synapse started" in page.text("tbody"), within=25)
    go(page, "")
    eventually(lambda: page.row("Services", "web")["up"] == "▲ 3/4", within=25)
    eventually(lambda: "does not answer" not in page.text("body"), within=25)


def test_where_the_feed_is_off(browser: Browser) -> None:
    """Every page says why it has no figures, once; instances are there all the same, and the worst that is wrong stands
    above every page."""
    with closing(Host()) as host:
        host.settings["telemetry"] = {"listen": None}
        host.serve("web", 3210, instances=1)
        host.define("empty", 3211)
        host.start()
        browser.base = f"http://{host.admin}"
        browser.size(1280)
        browser.open("")
        off = "nothing is known of requests: telemetry.listen is null in synapse.yaml"
        eventually(lambda: browser.text(".notice") == f"figures: {off}")
        assert browser.row("Services", "web")["success"] == DASH
        go(browser, "service/web")
        eventually(lambda: browser.row("Instances", host.instance(1).address)["state"] == "● serving")
        eventually(lambda: browser.text(".notice").endswith(off))
        assert "Live requests" not in browser.text()
        eventually(lambda: browser.text(".well") == "✕ empty: no instance is registered")


def says_a_time(shown: WebElement) -> bool:
    return re.search(r"\d\d:\d\d:\d\d", shown.text) is not None


def test_the_legend_says_the_newest(page: Browser, serving: Host) -> None:
    """Beneath a curve stand its last values while nobody points at others, after a phone was turned too."""
    page.open("service/web")
    for width in (1280, 700):
        page.size(width)
        eventually(lambda: page.text(".u-legend"), within=10)
        for shown in page.driver.find_elements(By.CSS_SELECTOR, ".u-legend"):
            eventually(partial(says_a_time, shown))


WELL = {"state": "serving", "balance": None}
SLOW = {"state": "serving", "balance": {"breaker": "closed", "share": 0.1, "why": "slow, 50 ms against 2 ms"}}
NEARLY = {"state": "serving", "balance": {"breaker": "closed", "share": 0.3, "why": "slow, 3 ms against 2 ms"}}
OUT = {"state": "out", "balance": {"breaker": "open", "share": 0, "why": "7 failures in a row"}}
DOWN = {"state": "down", "balance": None}


@pytest.mark.parametrize(
    ("instances", "wanted"),
    [
        ([WELL, NEARLY], []),
        ([], ["bad no instance is registered"]),
        ([DOWN], ["bad no instance serves"]),
        ([WELL, DOWN], ["warn HAProxy finds 1 of 2 down"]),
        ([WELL, OUT], ["warn the breaker is open for 1 of 2"]),
        ([WELL, SLOW], ["warn one of 2: slow, 50 ms against 2 ms"]),
        ([WELL, SLOW, SLOW], ["warn 2 of 3 get less than a quarter of their share"]),
    ],
    ids=["well", "none", "none-serves", "down", "out", "slow", "two-slow"],
)
def test_what_is_called_wrong(page: Browser, instances: list[object], wanted: list[str]) -> None:
    """One slow instance is worth a word, a little slower is not. What is bad stands before what is only a warning."""
    service = {"origin": "listing", "instances": instances}
    status = {"services": {"api": {"origin": "last good", "reason": "away", "instances": [WELL]}, "web": service}}
    found = call(page, "health.js", "troublesOf", status)
    said = [f"{each['level']} {each['text']}" for each in found]
    assert sorted(said) == sorted([*wanted, "warn last good: away"])
    assert [each["level"] for each in found] == sorted(each["level"] for each in found)


CALLS = (
    ("web", "api"),
    ("vm", "db"),
    ("frontdoor", "empty"),
    ("frontdoor", "many"),
    ("a-caller-with-a-very-long-name", "service-with-a-very-long-name"),
    ("frontdoor", "service-00"),
    ("cron", "web"),
    ("frontdoor", "web"),
)
"""Sorted as synapse tells them: the long name comes to stand between a caller of many and what it calls."""


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "phone"])
def test_no_line_of_the_graph_runs_behind_a_name(page: Browser, narrow: bool) -> None:
    """However long the names of its neighbours are, a line goes from the side of its caller to that of its callee."""
    edges = [{"source": source, "service": service} for source, service in CALLS]
    placed = call(page, "topology.js", "layout", edges, [], narrow)
    script = """
        const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
        line.setAttribute("d", arguments[0]);
        const length = line.getTotalLength();
        const points = [...Array(101).keys()].map((part) => line.getPointAtLength((part * length) / 100));
        return points.map(({ x, y }) => [x, y]);"""
    for line in placed["edges"]:
        points = page.driver.execute_script(script, line["path"])
        hidden = [node["name"] for node in placed["nodes"] if any(covers(node, *point) for point in points)]
        assert hidden == [], line["edge"]


def covers(node: dict[str, Any], x: float, y: float) -> bool:
    """Whether a point is behind a node of the graph, and not only at its border."""
    beside, above = abs(x - node["x"]), abs(y - node["y"])
    return bool(beside < node["width"] / 2 - 0.5 and above < node["height"] / 2 - 0.5)


@pytest.mark.parametrize("path", ["/dashboard/../daemon.py", "/dashboard/%2e%2e/daemon.py", "/dashboard/__init__.py"])
def test_nothing_else_is_served(serving: Host, path: str) -> None:
    """No path leads to a file that is none of the dashboard's."""
    connection = http.client.HTTPConnection(serving.admin, timeout=10)
    connection.request("GET", path)
    assert connection.getresponse().status == 404
    connection.close()
