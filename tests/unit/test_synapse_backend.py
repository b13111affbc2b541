"""The words of a backend: each key of a definition, and what HAProxy is told for it."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest

from smartstack.definition import ServiceDefinition
from smartstack.shifting import Limits, RetryBudget
from smartstack.traffic import Hash, Health, Proxy, Sticky
from smartstack.validation import validate
from smartstack.yaml_file import load
from synapse.backend import Backend, Budget, backend
from tests.support.definitions import proxy

CHECKED = "inter 10000ms fastinter 1000ms downinter 1000ms fall 2 rise 1"
WATCHED = "observe layer4 error-limit 3 on-error mark-down"
POOL = "pool-purge-delay 1s"
DEFAULT = Backend(
    balance="random(5)",
    hash_type="",
    load_limit=None,
    retries=2,
    retry_on="conn-failure empty-response 502 503 504",
    retry_methods="GET HEAD OPTIONS TRACE PUT DELETE",
    budget=Budget(left="proc.retries_left.web", at="proc.retries_at.web", earned=200, earned_per_ms=10),
    cookie="",
    cookie_key="",
    health_host="web",
    no_place="no connection to an instance of web",
    server=f"{CHECKED} {WATCHED} {POOL}",
    each="tcp-ut 2s",
)
HASH: dict[str, Any] = {"balance": "hash"}
RING: dict[str, Any] = {"hash_type": "consistent"}

WORDS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing said": ({}, {}),
    "roundrobin": ({"balance": "roundrobin"}, {"balance": "roundrobin"}),
    "random": ({"balance": "random"}, {"balance": "random"}),
    "by the client's address": ({"balance": "source"}, {"balance": "source", **RING}),
    "by path": (HASH, {"balance": "uri path-only", **RING}),
    "by uri": ({**HASH, "hash": Hash(by="uri")}, {"balance": "uri whole", **RING}),
    "by header": ({**HASH, "hash": Hash(by="header", name="X-User")}, {"balance": "hdr(X-User)", **RING}),
    "by cookie": ({**HASH, "hash": Hash(by="cookie", name="sid")}, {"balance": "hash req.cook(sid)", **RING}),
    "by query": ({**HASH, "hash": Hash(by="query", name="user")}, {"balance": "url_param user", **RING}),
    "with a limit of load": (
        {**HASH, "hash": Hash(load_limit=125)},
        {"balance": "uri path-only", "load_limit": 125, **RING},
    ),
    "no retries": ({"retries": 0}, {"retries": 0, "retry_on": "", "retry_methods": "", "budget": None}),
    "as many retries as there are": ({"retry_budget": None}, {"budget": None}),
    "a budget of its own": (
        {"retry_budget": RetryBudget(ratio=0.015, floor=3)},
        {"budget": Budget(left="proc.retries_left.web", at="proc.retries_at.web", earned=15, earned_per_ms=3)},
    ),
    "retried for each reason, each once": (
        {"retry_on": ("junk", "500", "timeout", "500")},
        {"retry_on": "junk-response 500 response-timeout"},
    ),
    "retried for nothing": ({"retry_on": ()}, {"retry_on": "none", "budget": None}),
    "any method is retried": ({"retry_all_methods": True}, {"retry_methods": ""}),
    "bytes are not looked at": (
        {"mode": "tcp"},
        {"balance": "leastconn", "retry_on": "", "retry_methods": "", "budget": None, "each": ""},
    ),
    "sticky": (
        {"sticky": Sticky(cookie="WEB")},
        {"cookie": "WEB insert indirect nocache dynamic", "cookie_key": "web"},
    ),
    "sticky for a time": (
        {"sticky": Sticky(max_idle=90.0)},
        {"cookie": "SMARTSTACK insert indirect nocache dynamic maxidle 90s", "cookie_key": "web"},
    ),
    "another host is asked": ({"health": Health(path="/", host="a.b")}, {"health_host": "a.b"}),
    "checked otherwise": (
        {"health": Health(interval=2.5, fast_interval=0.25, rise=3, fall=4, observe="answers", errors=9)},
        {
            "server": "inter 2500ms fastinter 250ms downinter 250ms fall 4 rise 3 "
            f"observe layer7 error-limit 9 on-error mark-down {POOL}"
        },
    ),
    "not watched": ({"health": Health(observe="off")}, {"server": f"{CHECKED} {POOL}"}),
    "limited": (
        {"limits": Limits(instance=50, instance_queue=5)},
        {
            "server": f"{CHECKED} {WATCHED} maxconn 50 maxqueue 5 {POOL}",
            "no_place": "no free place at an instance of web within 1000ms, or no connection",
        },
    ),
    "slow start": ({"slow_start": 30.0}, {"server": f"{CHECKED} {WATCHED} slowstart 30000ms {POOL}"}),
    "PROXY protocol, the text": (
        {"send_proxy": "v1"},
        {"server": f"{CHECKED} {WATCHED} send-proxy check-send-proxy {POOL}"},
    ),
    "PROXY protocol, the binary": (
        {"send_proxy": "v2"},
        {"server": f"{CHECKED} {WATCHED} send-proxy-v2 check-send-proxy {POOL}"},
    ),
}


@pytest.mark.parametrize(("fields", "words"), WORDS.values(), ids=WORDS)
def test_what_haproxy_is_told(fields: dict[str, Any], words: dict[str, Any]) -> None:
    """A key changes the words that it is about, and no others."""
    assert backend("web", proxy(**fields), (2, 6)) == dataclasses.replace(DEFAULT, **words)


@pytest.mark.parametrize(
    ("balance", "version", "said"),
    [
        ("hash", (3, 0), True),
        ("source", (3, 2), True),
        ("hash", (2, 9), False),
        ("leastconn", (3, 2), False),
    ],
)
def test_hosts_agree_on_the_ring_where_haproxy_can(balance: str, version: tuple[int, int], said: bool) -> None:
    """From 3.0 on an instance's place on the ring is by its address, the same on every host; before, by its slot."""
    assert ("hash-key addr-port" in backend("web", proxy(balance=balance), version).server) is said


def test_a_cookie_is_of_its_service() -> None:
    """Every host gives the same values for a service, and another service has others."""
    one, same, other = (backend(name, proxy(sticky=Sticky()), (2, 6)) for name in ("web", "web", "api"))
    assert one.cookie_key == same.cookie_key != other.cookie_key


def read(**fields: Any) -> Proxy:
    text = json.dumps({"port": 80, "proxy": {"listen": 3210, **fields}})
    made = validate(ServiceDefinition, load(text, "f", {}), path="f").proxy
    assert made is not None
    return made


def test_statuses_are_written_as_numbers() -> None:
    """`retry_on: [connection, 503]` is how one writes it, and what HAProxy is told."""
    assert backend("web", read(retry_on=["connection", 503]), (2, 6)).retry_on == "conn-failure 503"


def test_raw_lines_keep_their_places() -> None:
    """The n-th line of the definition is the n-th of the file, so that HAProxy's complaint leads back to it."""
    assert read(raw={"backend": "# why\n\n  option abortonclose  \n"}).raw.backend == (
        "# why",
        "",
        "option abortonclose",
    )


def test_where_others_take_over_an_instance_gets_less_patience() -> None:
    """With backups one error takes an instance out, and a request may meet five of them; what the definition says
    holds all the same."""
    near = backend("web", proxy(), (2, 6), backups=True)
    assert near.retries == 5
    assert "error-limit 1 " in near.server
    said = backend("web", proxy(retries=1, health=Health(errors=7)), (2, 6), backups=True)
    assert said.retries == 1
    assert "error-limit 7 " in said.server
