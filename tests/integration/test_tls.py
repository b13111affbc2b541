"""TLS through a real HAProxy: who is believed, who is not, and certificate files that are renewed under load."""

import os
import signal
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from synapse.pem import certificate_text
from tests.support.clients import LoadClient, ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host
from tests.support.tls import NAME, Authority, serial_at, serials

PLAIN, SECURE, CLOSED, PROBE = 3210, 3211, 3212, 3213
QUICK = {"interval": "2s", "fast_interval": "100ms"}
"""The interval is also the limit of a check's connection and handshake, and a new worker's server goes down with its
first check that fails, whatever `fall` says: with 200 ms, one busy moment after a reload was enough for 503."""


class Fleet:
    """A host with a service `web` whose instances speak TLS with certificates of one authority, `inside`, and demand
    one of it. Clients come without TLS, with TLS, and with TLS and a certificate of `inside`, each at its own port.
    `probe` is the same in mode tcp: each connection to it is a new one to an instance."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.inside = Authority(host.directory / "tls")
        self.outside = Authority(host.directory / "outside")
        self.own = self.inside.renew("own.pem", "client.example")
        self.shown = self.inside.renew("web.pem", NAME)
        self.inside.write("ca.pem", self.inside.pem)
        self.visitor = str(self.inside.directory / "visitor.pem")
        self.inside.renew("visitor.pem", "visitor.example")

    def join(self, number: int, authority: Authority | None = None, name: str = NAME) -> str:
        """Register an instance with a certificate for this name; its address."""
        authority = authority or self.inside
        instance = self.host.instance(number)
        authority.renew(f"instance-{number}.pem", name)
        self.host.backends.close(instance.host, BACKEND_PORT)
        certificate = f"{authority.directory}/instance-{number}.pem"
        self.host.backends.open(instance.host, BACKEND_PORT, certificate, f"{self.inside.directory}/ca.pem")
        self.host.join("web", number)
        self.host.join("probe", number)
        return instance.address

    def define(self, **proxy: Any) -> None:
        """The definition of `web`."""
        address = self.host.address
        tls = {"ca": self.file("ca.pem"), "certificate": self.file("own.pem"), "server_name": NAME}
        shown = {"certificate": self.file("web.pem")}
        listens = [
            {"address": f"{address}:{SECURE}", "tls": shown},
            {"address": f"{address}:{CLOSED}", "tls": {**shown, "client_ca": self.file("ca.pem")}},
        ]
        self.host.define("web", PLAIN, **{"tls": tls, "also_listen": listens, "health": QUICK, **proxy})
        self.host.define("probe", PROBE, mode="tcp", tls=tls, health=QUICK)

    def file(self, name: str) -> str:
        """The path of a certificate file."""
        return str(self.inside.directory / name)

    def ask(self, port: int = PLAIN, tls: ssl.SSLContext | None = None) -> str:
        """One request; the answer."""
        return ask(self.host.address, port, tls)

    def serial(self) -> str:
        """The serial number of the certificate that HAProxy shows to clients now."""
        return serial_at(self.host.address, SECURE, self.inside.client())

    def own_serial(self) -> str:
        """The serial number of the certificate that HAProxy shows to an instance on a new connection."""
        return serials([self.ask(PROBE)]).pop()

    def told(self, name: str) -> dict[str, Any]:
        """What /status says of a certificate file."""
        files = self.host.synapse.status()["certificates"]
        return next(each for each in files if each["file"]["path"] == self.file(name))

    def clients(self) -> list[LoadClient]:
        """Clients of each kind, at work."""
        address = self.host.address
        return [
            LoadClient(address, port, keep_alive=keep_alive, rate=90, tls=tls).__enter__()
            for keep_alive in (False, True)
            for port, tls in (
                (PLAIN, None),
                (SECURE, self.inside.client()),
                (CLOSED, self.inside.client(self.visitor)),
            )
        ]

    def reloads(self) -> float:
        """How often HAProxy was reloaded."""
        return self.host.synapse.metric("synapse_haproxy_reloads_total", result="done")


@pytest.fixture
def fleet(host: Host) -> Fleet:
    """Two instances, and everything started."""
    made = Fleet(host)
    made.define()
    for number in (1, 2):
        made.join(number)
    host.start()
    eventually(lambda: len(host.members("web")) == 2)
    return made


def problems(host: Host) -> list[str]:
    """What synapse says is wrong with the host's files."""
    return [str(problem) for problem in host.synapse.status()["problems"].get("", [])]


def refusal(host: Host, service: str = "web") -> str:
    """Why the definition of a service is not in use."""
    why = host.told(service)["refused_definition"]
    assert isinstance(why, str)
    return why


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_both_sides_prove_who_they_are(host: Host, mode: str) -> None:
    """Instances are spoken to by TLS, and see our certificate; HAProxy's check of them passes by the same way."""
    fleet = Fleet(host)
    fleet.define(mode=mode)
    addresses = {fleet.join(number) for number in (1, 2)}
    host.start()
    assert_answers = {f"{address} {fleet.own}" for address in addresses}
    seen: set[str] = set()

    def everybody_answers() -> bool:
        address, serial = fleet.ask().split()
        seen.add(f"{address} {serial.rjust(40, '0')}")
        return seen == assert_answers

    eventually(everybody_answers)
    checked = host.synapse.metric("synapse_instances", service="web")
    assert checked == 2
    assert {each["state"] for each in host.told("web")["instances"]} == {"serving"}
    assert fleet.ask(SECURE, fleet.inside.client()).split()[0] in addresses
    assert fleet.ask(CLOSED, fleet.inside.client(fleet.visitor)).split()[0] in addresses


@pytest.mark.parametrize(
    ("believed", "name"),
    [pytest.param(True, "other.example", id="another name"), pytest.param(False, NAME, id="another authority")],
)
def test_who_cannot_prove_it_gets_no_request(host: Host, believed: bool, name: str) -> None:
    """An instance with the certificate of somebody else is not spoken to: alone it is 503, among others these answer,
    and HAProxy's check takes it out."""
    fleet = Fleet(host)
    fleet.define()
    wrong = fleet.join(1, fleet.inside if believed else fleet.outside, name)
    host.start()
    eventually(lambda: host.members("web"))
    for _ in range(20):
        with pytest.raises(AssertionError, match="503"):
            fleet.ask()
    right = fleet.join(2)
    eventually(lambda: len(host.members("web")) == 2)
    eventually(fleet.ask)
    assert {fleet.ask().split()[0] for _ in range(40)} == {right}
    states = {each["address"]: each["state"] for each in host.told("web")["instances"]}
    eventually(lambda: host.runtime.servers(["web"])["web"][0].up is False)
    assert wrong in states


def test_without_a_name_the_authority_is_enough(host: Host) -> None:
    """Whoever has a certificate of the authorities in `ca` is believed where the definition gives no server_name."""
    fleet = Fleet(host)
    fleet.define(tls={"ca": fleet.file("ca.pem"), "certificate": fleet.file("own.pem")})
    address = fleet.join(1, name="other.example")
    host.start()
    assert eventually(fleet.ask).split()[0] == address


def test_clients_must_show_a_certificate_where_they_must(fleet: Fleet) -> None:
    """With client_ca, a client without a certificate, or with that of another authority, does not reach anybody."""
    stranger = fleet.outside.renew("stranger.pem", NAME)
    assert stranger
    foreign = fleet.inside.client(str(fleet.outside.directory / "stranger.pem"))
    for client in (fleet.inside.client(), foreign):
        with pytest.raises(AssertionError, match=r"alert|reset|EOF|ended"):
            fleet.ask(CLOSED, client)
    assert fleet.ask(CLOSED, fleet.inside.client(fleet.visitor))


def test_renewals_cost_no_request_and_no_reload(fleet: Fleet) -> None:
    """Under load, what HAProxy shows to clients and to instances is renewed, and the authorities that it believes: the
    new ones are shown and believed, the process stays the same, and no request fails."""
    host = fleet.host
    before, reloads = host.haproxy(), fleet.reloads()
    clients = fleet.clients()
    for turn in range(3):
        shown = fleet.inside.renew("web.pem", NAME)
        shows(fleet.serial, shown, f"turn {turn}: clients see the new certificate")
        own = fleet.inside.renew("own.pem", "client.example")
        shows(fleet.own_serial, own, f"turn {turn}: instances see the new certificate")
    newcomer = fleet.join(3, fleet.outside)
    eventually(lambda: not host.runtime.servers(["web"])["web"][2].up, message="nobody believes the newcomer yet")
    fleet.inside.write("ca.pem", fleet.inside.pem + fleet.outside.pem)
    eventually(lambda: newcomer in fleet.ask(), message="the newcomer is believed")
    assert_none_failed(clients, at_least=150)
    assert host.haproxy() == before
    assert fleet.reloads() == reloads
    assert host.synapse.metric("synapse_certificates_loaded_total", result="done") == 7
    assert host.synapse.metric("synapse_certificates_loaded_total", result="failed") == 0
    assert problems(host) == []
    assert [serial.rjust(40, "0") for serial in fleet.told("web.pem")["serials"]] == [shown]


def shows(ask: Callable[[], str], serial: str, message: str) -> None:
    """Wait until that is the serial number that is shown."""
    eventually(lambda: ask() == serial, message=message)


def half(fleet: Fleet) -> None:
    certificate, key, _ = fleet.inside.issue(NAME)
    fleet.inside.write("web.pem", key + certificate[:-30])


def only_the_key(fleet: Fleet) -> None:
    _, key, _ = fleet.inside.issue(NAME)
    certificate, _, _ = fleet.inside.issue(NAME)
    fleet.inside.write("web.pem", key + certificate)


def gone(fleet: Fleet) -> None:
    Path(fleet.file("web.pem")).unlink()


def a_command(fleet: Fleet) -> None:
    fleet.inside.write("web.pem", "-----BEGIN CERTIFICATE-----\n\nshutdown frontend web\n-----END CERTIFICATE-----\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(half, "is cut off", id="half written"),
        pytest.param(only_the_key, "is not the certificate of its key", id="only the key"),
        pytest.param(gone, "cannot be read: no such file", id="gone"),
        pytest.param(a_command, "is garbled", id="a command in it"),
    ],
)
def test_a_broken_renewal_changes_nothing(fleet: Fleet, spoil: Any, said: str) -> None:
    """What was good stays in use, also when HAProxy is reloaded or starts again meanwhile, and everybody is told; when
    the file is whole it is taken."""
    host, before = fleet.host, fleet.shown
    spoil(fleet)
    eventually(lambda: any(f"web.pem: {said}" in problem for problem in problems(host)), message=said)
    assert fleet.serial() == before
    host.define("other", 3300)
    eventually(lambda: host.told("other")["slots"], message="another service is added by a reload", within=10)
    assert fleet.serial() == before
    master, _ = host.haproxy()
    os.kill(master, signal.SIGKILL)
    eventually(lambda: fleet.serial() == before, message="HAProxy is there again", within=10)
    assert refusal_or_none(host) is None
    renewed = fleet.inside.renew("web.pem", NAME)
    eventually(lambda: fleet.serial() == renewed)
    eventually(lambda: problems(host) == [])


def refusal_or_none(host: Host) -> str | None:
    """Why the definition of `web` is not in use, None when it is."""
    why = host.told("web")["refused_definition"]
    assert why is None or isinstance(why, str)
    return why


def test_a_key_in_a_file_of_its_own(host: Host) -> None:
    """As certbot and Kubernetes keep them: between the two writes of a renewal the old pair stays in use."""
    fleet = Fleet(host)
    certificate, key, first = fleet.inside.issue(NAME)
    fleet.inside.write("tls.crt", certificate)
    fleet.inside.write("tls.key", key)
    shown = {"certificate": fleet.file("tls.crt"), "key": fleet.file("tls.key")}
    fleet.define(also_listen=[{"address": f"{host.address}:{SECURE}", "tls": shown}])
    fleet.join(1)
    host.start()
    assert fleet.serial() == first
    certificate, key, second = fleet.inside.issue(NAME)
    fleet.inside.write("tls.crt", certificate)
    eventually(lambda: any("is not the certificate of its key" in problem for problem in problems(host)))
    assert fleet.serial() == first
    fleet.inside.write("tls.key", key)
    eventually(lambda: fleet.serial() == second)
    eventually(lambda: problems(host) == [])


def test_a_directory_behind_a_link_is_swapped(host: Host) -> None:
    """As Kubernetes renews what it mounts: `tls.pem` leads to `..data/tls.pem`, and `..data` to what is current."""
    fleet = Fleet(host)
    mounted = fleet.inside.directory / "mounted"
    mounted.mkdir()

    def publish(name: str) -> str:
        (fleet.inside.directory / "mounted" / name).mkdir()
        serial = fleet.inside.renew(f"mounted/{name}/tls.pem", NAME)
        (mounted / "..new").symlink_to(name)
        (mounted / "..new").rename(mounted / "..data")
        return serial

    first = publish("..1")
    (mounted / "tls.pem").symlink_to("..data/tls.pem")
    shown = {"certificate": str(mounted / "tls.pem")}
    fleet.define(also_listen=[{"address": f"{host.address}:{SECURE}", "tls": shown}])
    fleet.join(1)
    host.start()
    before = host.haproxy()
    assert fleet.serial() == first
    for turn in ("..2", "..3", "..4"):
        shows(fleet.serial, publish(turn), f"{turn}: clients see the new certificate")
    assert host.haproxy() == before


@pytest.mark.parametrize("copied", [False, True], ids=["renewed", "renewed, and ended before HAProxy was told"])
def test_what_was_renewed_while_nobody_looked(fleet: Fleet, copied: bool) -> None:
    """synapse finds at its start that the running HAProxy has older bytes than the file, by what that shows, not by
    what was once done about it."""
    host = fleet.host
    before = host.haproxy()
    host.synapse.stop()
    renewed = fleet.inside.renew("web.pem", NAME)
    if copied:
        (copy,) = (host.state / "certificates").glob("*-web.pem")
        copy.write_text(certificate_text(Path(fleet.file("web.pem")).read_bytes(), None))
    assert fleet.serial() == fleet.shown
    host.synapse.start()
    eventually(lambda: fleet.serial() == renewed)
    assert host.haproxy() == before
    assert fleet.reloads() == 0


def test_a_service_without_its_file_is_refused_alone(fleet: Fleet) -> None:
    """It is told with the file, the line and the key of its definition; the others go on; once the file is there, the
    service is."""
    host = fleet.host
    fleet.join(3)
    host.define("api", 3300, also_listen=[{"address": f"{host.address}:3301", "tls": {"certificate": "late.pem"}}])
    why = eventually(partial(refusal, host, "api"))
    late = f"{host.services}/late.pem"
    assert why.startswith(f"{host.services}/api.yaml:1:")
    assert why.endswith(f"proxy.also_listen[0].tls.certificate: {late} cannot be read: no such file or directory")
    assert fleet.ask()
    serial = fleet.inside.renew("late.pem", NAME)
    Path(fleet.file("late.pem")).rename(late)
    eventually(lambda: serial_at(host.address, 3301, fleet.inside.client()) == serial, within=15)


def test_too_many_authorities_for_the_runtime_api_take_a_reload(fleet: Fleet) -> None:
    """HAProxy takes no more than 16 KB at run time: a longer file is loaded by one reload, without an error."""
    host = fleet.host
    clients = fleet.clients()
    many = "".join(Authority(host.directory / "more").pem for _ in range(30))
    newcomer = fleet.join(3, fleet.outside)
    fleet.inside.write("ca.pem", fleet.inside.pem + fleet.outside.pem + many)
    eventually(lambda: newcomer in fleet.ask(), within=15)
    eventually(lambda: fleet.reloads() == 1)
    assert_none_failed(clients, at_least=150)
    assert any("ca.pem" in reason for reason in host.synapse.status()["haproxy"]["last_reload"])
    assert len(fleet.told("ca.pem")["serials"]) == 32


def test_a_certificate_that_nobody_renews_is_told_of(fleet: Fleet) -> None:
    """Two weeks before its end, in /status; when it ends is a metric of each file."""
    host, path = fleet.host, fleet.file("web.pem")
    assert problems(host) == []
    fleet.inside.renew("web.pem", NAME, days_left=13)
    told = eventually(lambda: [problem for problem in problems(host) if problem.startswith(f"{path}: expires at ")])
    assert told[0].endswith("UTC and has not been renewed")
    assert host.synapse.metric("synapse_certificate_expiry_seconds", file=path) == fleet.told("web.pem")["expires"]


def test_copies_are_for_nobody_else_and_go_when_nobody_needs_them(fleet: Fleet) -> None:
    """There are keys in them: only this user reads them, and those of a service that is gone are removed."""
    host = fleet.host
    directory = host.state / "certificates"
    copies = list(directory.iterdir())
    assert {copy.name.partition("-")[2] for copy in copies} == {"ca.pem", "own.pem", "web.pem"}
    assert {copy.stat().st_mode & 0o777 for copy in copies} == {0o600}
    assert directory.stat().st_mode & 0o777 == 0o700
    host.define("other", 3300)
    (host.services / "probe.yaml").unlink()
    (host.services / "web.yaml").unlink()
    eventually(lambda: "backend web" not in host.haproxy_file(), within=10)
    host.synapse.send(signal.SIGHUP)
    eventually(lambda: list(directory.iterdir()) == [], within=10)
