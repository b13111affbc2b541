"""From a line of haproxy.cfg that HAProxy refuses to the file, line and key of the definition that made it."""

from dataclasses import replace
from pathlib import Path

import pytest

from smartstack.forms import TcpAddress
from smartstack.traffic import Bind, ListenTls, Proxy, Raw, Route
from smartstack.yaml_file import load
from synapse.provenance import Key, Provenance, key_of, locate
from synapse.quarantine import Charge, Line
from tests.support.definitions import proxy

PART = """
frontend web
    bind 127.0.0.1:3210
    timeout client 60000ms
    # raw.frontend
    acl odd path_reg (
    use_backend api if odd

backend web
    mode http
    balance leastconn
    timeout server 60000ms
    default-server inter 10s slowstart 1s ssl ca-file /ca.pem crt /own.pem
    # raw.backend
    retries 7

    retries 7
    timeout server 1s
    server s1 127.0.0.1:9 check
"""
RICH = replace(
    proxy(raw=Raw(frontend=("acl odd path_reg (",), backend=("retries 7", "", "retries 7", "timeout server 1s"))),
    also_listen=(
        Bind(address=TcpAddress("127.0.0.1", 32)),
        Bind(address=TcpAddress("127.0.0.1", 321), tls=ListenTls(certificate="/own.pem", client_ca="/ca.pem")),
    ),
    routes=(Route(path="/a", to="ap"), Route(path="/b", to="api")),
)


def key(number: int, words: str = "no", of: Proxy = RICH, part: str = PART) -> Key | None:
    line = Line(part=part, number=number)
    return key_of(Charge(words=words, lines={"web": line}), line, of)


ROWS: list[tuple[int, str, Key | None]] = [
    (2, "no", Key(name="listen")),
    (3, "no", Key(name="timeouts.client")),
    (4, "no", None),
    (5, "no", Key(name="raw.frontend", index=0)),
    (6, "no", Key(name="routes[1].to")),
    (9, "no", Key(name="mode")),
    (10, "no", Key(name="balance")),
    (11, "no", Key(name="timeouts.server")),
    (12, "Couldn't open the ca-file '/ca.pem'", Key(name="tls.ca")),
    (12, "'crt' : unable to load", Key(name="tls.certificate")),
    (12, "'slowstart' expects a time", Key(name="slow_start")),
    (12, "something else", None),
    (14, "no", Key(name="raw.backend", index=0)),
    (16, "no", Key(name="raw.backend", index=2)),
    (17, "no", Key(name="raw.backend", index=3)),
    (18, "no", None),
]


@pytest.mark.parametrize(("number", "words", "expected"), ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
def test_the_key_behind_a_line(number: int, words: str, expected: Key | None) -> None:
    """A raw line is known by its place among the others, every other one by its first words; one that says nothing of
    the definition has no key."""
    assert key(number, words) == expected


@pytest.mark.parametrize(
    ("line", "words", "name"),
    [
        ("bind 127.0.0.1:32", "no", "also_listen[0].address"),
        (
            "bind 127.0.0.1:321 ssl crt /own.pem ca-file /ca.pem",
            "unable to stat '/own.pem'",
            "also_listen[1].tls.certificate",
        ),
        (
            "bind 127.0.0.1:321 ssl crt /own.pem ca-file /ca.pem",
            "unable to load '/ca.pem'",
            "also_listen[1].tls.client_ca",
        ),
        ("bind 127.0.0.1:321 ssl crt /own.pem", "no", "also_listen[1].address"),
        ("bind 127.0.0.1:3210", "no", "listen"),
    ],
)
def test_the_key_of_an_address(line: str, words: str, name: str) -> None:
    """Each address has its place, and so have the files of its certificates."""
    assert key(1, words, part=f"frontend web\n    {line}\n") == Key(name=name)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Proxy 'web': unable to find required use_backend: 'api'", Key(name="routes[1].to")),
        ("Proxy 'web': unable to find required use_backend: 'ap'", Key(name="routes[0].to")),
        ("Proxy 'web': unable to find table 'odd' referenced by track-sc0", Key(name="raw.frontend", index=0)),
        ("Proxy 'web': '7' is no table", None),
        ("Proxy 'web': it is wrong", None),
    ],
)
def test_the_key_where_haproxy_names_no_line(words: str, expected: Key | None) -> None:
    """What it quotes may be in one place only, and then that is meant."""
    assert key_of(Charge(words=words, lines={"web": None}), None, RICH) == expected


FILE = """port: 8080
proxy:
  listen: [3210, 3211]
  also_listen:
    - address: 3212
      tls: {certificate: a.pem}
  timeouts: &t
    server: 1s
  raw:
    frontend: "one\\ntwo"
    backend: |
      # one

      three
ports:
  admin:
    port: 9090
    proxy:
      listen: 3213
"""


@pytest.mark.parametrize(
    ("dotted", "index", "place"),
    [
        ("proxy.listen", None, (3, 3)),
        ("proxy.listen[1]", None, (3, 18)),
        ("proxy.also_listen[0].tls.certificate", None, (6, 26)),
        ("proxy.timeouts.server", None, (8, 13)),
        ("proxy.timeouts.client", None, (7, 3)),
        ("proxy.balance", None, (2, 1)),
        ("proxy.raw.backend", 0, (12, 7)),
        ("proxy.raw.backend", 2, (14, 7)),
        ("proxy.raw.backend", 99, (11, 14)),
        ("proxy.raw.frontend", 1, (10, 15)),
        ("ports.admin.proxy.listen", None, (19, 15)),
        ("proxy.listen[7]", None, (3, 3)),
        ("nothing", None, (0, 0)),
    ],
)
def test_the_place_of_a_key(dotted: str, index: int | None, place: tuple[int, int]) -> None:
    """That of the value; of a key that is not in the file, that of the nearest above it; of a text in a block, that of
    the line."""
    assert locate(FILE.encode(), load(FILE, "web.yaml", {}), dotted, index) == place


def charge(number: int, words: str) -> Charge:
    return Charge(words=words, lines={"web": Line(part=PART, number=number)})


def test_what_is_told(tmp_path: Path) -> None:
    """The file, the line and the key of the definition, the line that was made of it, and HAProxy's own words."""
    (tmp_path / "web.yaml").write_text("proxy:\n  listen: 3210\n  raw:\n    backend: |\n      retries 7\n")
    told = Provenance(str(tmp_path))
    of = proxy(raw=Raw(backend=("retries 7",)))
    assert told.refusal("web", of, charge(14, "too many")) == (
        f"{tmp_path}/web.yaml:5:7: proxy.raw.backend: HAProxy refuses 'retries 7': too many"
    )
    assert told.refusal("web", of, charge(18, "no")) == (
        f"{tmp_path}/web.yaml: HAProxy refuses 'server s1 127.0.0.1:9 check', which a template says: no"
    )
    assert (
        told.refusal("web", of, Charge(words="out of memory"))
        == f"{tmp_path}/web.yaml: HAProxy refuses it: out of memory"
    )
    assert told.taken("web", of, "cannot listen on 127.0.0.1:3210: no") == (
        f"{tmp_path}/web.yaml:2:11: proxy.listen: cannot listen on 127.0.0.1:3210: no"
    )


def test_a_port_of_a_service_is_in_the_file_of_the_service(tmp_path: Path) -> None:
    """Unless it has a file of its own."""
    (tmp_path / "web.yml").write_text("ports:\n  admin:\n    proxy:\n      listen: 3210\n")
    told = Provenance(str(tmp_path))
    why = "cannot listen on 127.0.0.1:3210: no"
    assert told.taken("web.admin", proxy(), why) == f"{tmp_path}/web.yml:4:15: ports.admin.proxy.listen: {why}"
    (tmp_path / "web.admin.yaml").write_text("proxy: {listen: 3210}\n")
    assert told.taken("web.admin", proxy(), why) == f"{tmp_path}/web.admin.yaml:1:17: proxy.listen: {why}"


@pytest.mark.parametrize("text", [None, "proxy: {", "\x00"])
def test_a_file_that_cannot_be_read_has_no_lines(tmp_path: Path, text: str | None) -> None:
    """The definition in use is then the last good one: the words are told all the same."""
    if text is not None:
        (tmp_path / "web.yaml").write_text(text)
    assert Provenance(str(tmp_path)).taken("web", proxy(), "no") == f"{tmp_path}/web.yaml: proxy.listen: no"
