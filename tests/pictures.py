"""Takes the dashboard's pictures in docs/images anew: `python -m tests.pictures`, about three minutes. One host, whose
services call each other; of web's instances one is slow and one is drained, and mail fails now and then."""

import http.client
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from selenium.webdriver.common.by import By

from smartstack.instance import MAINTENANCE_LABEL, Instance, encode, node_name
from smartstack.registry.protocol import NodeId
from tests.support.browser import Browser
from tests.support.eventually import eventually
from tests.support.moody import Moody
from tests.support.pair import BACKEND_PORT, Host

IMAGES = Path(__file__).parents[1] / "docs" / "images"
TRAFFIC_SECONDS = 150.0
WIDTH = 1180

SERVICES = {"web": 5, "api": 3, "search": 2, "users": 2, "billing": 1, "mail": 14}
"""How many instances each has."""

CALLS = (
    ("frontdoor", "web", "/users/1", 27),
    ("mobile", "web", "/cart", 15),
    ("web", "api", "/", 24),
    ("web", "search", "/", 9),
    ("web", "users", "/", 5),
    ("api", "users", "/", 18),
    ("api", "billing", "/", 3),
    ("billing", "mail", "/", 3),
)
"""Who calls whom for what, and how often in a second."""


class Town(Host):
    """A host whose instances answer as they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.moody = Moody()
        self._used = 0
        self.addresses: dict[str, list[str]] = {}

    def settle(self) -> None:
        """Define every service and register its instances; no two are at one address."""
        for number, (service, count) in enumerate(SERVICES.items()):
            calm = {"breaker": "off", "balance": "roundrobin"} if service == "mail" else {}
            self.define(service, 3210 + number, paths=["/users/{id}", "/cart"] if service == "web" else [], **calm)
            for _ in range(count):
                self._used += 1
                host = f"{self._network}.{self._used}"
                self.moody.open(host, BACKEND_PORT)
                self.moody.answer(host, BACKEND_PORT, after=0.003)
                self.addresses.setdefault(service, []).append(host)
                self.register(service, host)

    def register(self, service: str, host: str, weight: int | None = None, **labels: str) -> None:
        """Register an instance, or register it anew with a weight and labels."""
        name = f"host-{host.rpartition('.')[2]}"
        found = Instance(host=host, port=BACKEND_PORT, name=name, weight=weight, labels=tuple(sorted(labels.items())))
        self.writer.put(NodeId(path=f"services/{service}", node=node_name(found)), encode(found))

    def close(self) -> None:
        """End everything."""
        super().close()
        self.moody.stop()


@contextmanager
def traffic(town: Town) -> Iterator[None]:
    """Everybody calls whom they call, until the end of the block."""
    over = threading.Event()
    ports = {service: 3210 + number for number, service in enumerate(SERVICES)}

    def call(source: str, service: str, path: str, rate: int) -> None:
        while not over.wait(1 / rate):
            connection = http.client.HTTPConnection(town.address, ports[service], timeout=5)
            with suppress(OSError, http.client.HTTPException):
                connection.request("GET", path, headers={"X-Smartstack-Source": source})
                connection.getresponse().read()
            connection.close()

    threads = [threading.Thread(target=call, args=each, daemon=True) for each in CALLS]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def take(browser: Browser, name: str, scheme: str, height: int) -> None:
    """Keep what the page shows now."""
    browser.size(WIDTH, scheme)
    eventually(lambda: "asking" not in browser.text("body"))
    browser.driver.execute_script("scrollTo(0, 0)")
    shutil.move(browser.picture(name, height), IMAGES / f"{name}.png")


def main() -> None:
    """Take both pictures."""
    with closing(Town()) as town, closing(Browser()) as browser:
        town.settle()
        town.start()
        web, mail = town.addresses["web"], town.addresses["mail"]
        with traffic(town):
            time.sleep(TRAFFIC_SECONDS / 2)
            town.moody.answer(web[2], BACKEND_PORT, after=0.06)
            town.moody.answer(mail[0], BACKEND_PORT, after=0.003, status=500)
            drained = {MAINTENANCE_LABEL: "new disk", f"{MAINTENANCE_LABEL}_owner": "alice"}
            town.register("web", web[1], weight=0, **drained)
            time.sleep(TRAFFIC_SECONDS / 2)
            browser.base = f"http://{town.admin}"
            browser.open("service/web")
            eventually(lambda: browser.row("Instances", f"{web[2]}:{BACKEND_PORT}")["why"])
            browser.driver.find_element(By.CSS_SELECTOR, "#tap button[type=submit]").click()
            take(browser, "dashboard-service", "dark", 1150)
            browser.open("topology")
            eventually(lambda: "billing" in browser.text(".graph"))
            take(browser, "dashboard-topology", "light", 640)


if __name__ == "__main__":
    main()
