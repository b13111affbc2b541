"""Where clients reach a service: several addresses, unix sockets, the PROXY protocol; who has an address keeps it."""

import json
import socket
import stat
from collections.abc import Sequence
from functools import partial

import pytest

from smartstack.forms import Listen, TcpAddress, UnixSocket
from tests.support.clients import LoadClient, ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.exchange import exchange
from tests.support.pair import BACKEND_PORT, CHECK, Host
from tests.support.stage import QUIET, Stage

PORT, OTHER_PORT = 3210, 3211


def test_a_newcomer_does_not_take_the_address_of_a_service_that_runs(host: Host) -> None:
    """A definition with the address of another is refused whatever its name, and the others go on being reloaded."""
    host.serve("web", 3210)
    host.start()
    eventually(lambda: ask(host.address, 3210))
    host.define("aaa", 3210)
    eventually(lambda: f"{host.address}:3210 is the address of web already" in refusal(host, "aaa"))
    assert host.told("web")["refused_definition"] is None
    host.serve("zzz", 3230)
    eventually(lambda: ask(host.address, 3230))
    assert ask(host.address, 3210)
    (host.services / "web.yaml").unlink()
    eventually(lambda: host.told("aaa")["refused_definition"] is None, within=45)


def refusal(host: Host, service: str) -> str:
    """Why a service's definition is not in use, empty when it is."""
    return host.told(service)["refused_definition"] or ""


def everywhere(host: Host) -> Sequence[Listen]:
    """A port, the same at another address, another port, a unix socket."""
    neighbour = f"{host.address.rpartition('.')[0]}.251"
    return (
        TcpAddress(host.address, PORT),
        TcpAddress(neighbour, PORT),
        TcpAddress(host.address, OTHER_PORT),
        UnixSocket(f"{host.directory}/web.sock"),
    )


def offer(host: Host, *addresses: Listen) -> None:
    """Define `web` at these addresses."""
    proxy = {"listen": [str(each) for each in addresses]}
    host.write("services/web.yaml", json.dumps({"port": BACKEND_PORT, "check": CHECK, "proxy": proxy}))


def answers(to: Listen) -> bool:
    return exchange(to).status == 200


def test_a_service_answers_at_every_address(host: Host) -> None:
    """Ports of several addresses and a unix socket; /status names them all. Addresses come and go by an edit, and no
    client of another one notices."""
    every = everywhere(host)
    host.join("web", 1)
    offer(host, *every)
    host.start()
    assert all(map(answers, every))
    assert host.told("web")["listen"] == ", ".join(map(str, every))
    clients = [LoadClient(host.address, PORT, keep_alive=each).__enter__() for each in (False, True)]
    for _ in range(3):
        offer(host, every[0])
        eventually(lambda: host.told("web")["listen"] == str(every[0]))
        for each in every[1:]:
            eventually(partial(refuses, each), within=10)
        offer(host, *every)
        for each in every:
            eventually(partial(answers, each), within=10)
    assert_none_failed(clients, at_least=100)


def refuses(to: Listen) -> bool:
    """Whether nobody listens there any more."""
    try:
        exchange(to)
    except AssertionError as error:
        return "refused" in str(error) or "No such file" in str(error)
    return False


def test_a_unix_socket_is_for_everybody_who_may_enter_its_directory(host: Host) -> None:
    """As a port is for everybody on the host: the client need not be HAProxy's own user. So it stays after a reload."""
    socket_path = host.directory / "web.sock"
    host.join("web", 1)
    offer(host, UnixSocket(str(socket_path)))
    host.start()
    for change in range(2):
        assert stat.S_IMODE(socket_path.stat().st_mode) == 0o666
        assert answers(UnixSocket(str(socket_path)))
        host.serve("more", 3230 + change)
        eventually(partial(ask, host.address, 3230 + change))


def test_an_address_that_somebody_else_has_leaves_the_whole_service_as_it_was(host: Host) -> None:
    """None of its new addresses is in use, and none of its old ones is lost; once the address is free, all are."""
    old, _, taken, path = everywhere(host)
    host.join("web", 1)
    offer(host, old)
    host.start()
    assert isinstance(taken, TcpAddress)
    with socket.create_server((taken.host, taken.port)):
        offer(host, path, taken)
        eventually(lambda: "another process has it" in refusal(host, "web"))
        assert answers(old)
        assert refuses(path)
    eventually(lambda: answers(taken), within=15)
    assert answers(path)
    assert refuses(old)


def test_an_address_moves_from_one_service_to_another(host: Host) -> None:
    """In one edit of both: one reload, after which the other answers there."""
    host.join("web", 1)
    offer(host, TcpAddress(host.address, PORT), TcpAddress(host.address, OTHER_PORT))
    host.join("api", 2)
    host.define("api", 3212)
    host.start()
    offer(host, TcpAddress(host.address, PORT))
    host.define("api", OTHER_PORT)
    eventually(lambda: ask(host.address, OTHER_PORT) == host.instance(2).address, within=15)
    assert ask(host.address, PORT) == host.instance(1).address
    assert refusal(host, "web") == refusal(host, "api") == ""


PROXY_HEADERS = {
    "v1": b"PROXY TCP4 192.0.2.7 192.0.2.1 5555 80\r\n",
    "v2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
    + socket.inet_aton("192.0.2.7")
    + socket.inet_aton("192.0.2.1")
    + b"\x15\xb3\0P",
}


@pytest.mark.parametrize("preface", PROXY_HEADERS.values(), ids=PROXY_HEADERS)
def test_a_client_may_be_told_by_the_proxy_protocol(stage: Stage, preface: bytes) -> None:
    """At that address only: its word is believed and given on, whoever does not speak it is not heard there, and at the
    other address the client is who it is."""
    host = stage.host
    actor = stage.play(1, proxied=True)
    proxied = TcpAddress(host.address, OTHER_PORT)
    stage.start(also_listen=[{"address": str(proxied), "accept_proxy": True}], send_proxy="v1", **QUIET)
    assert exchange(proxied, preface=preface).text == actor.address
    assert any(each.startswith(b"PROXY TCP4 192.0.2.7 192.0.2.1 5555 80") for each in actor.prefaces)
    assert exchange(TcpAddress(host.address, PORT)).text == actor.address
    assert sum(b"192.0.2.7" in each for each in actor.prefaces) == 1
    before = len(actor.requests)
    with pytest.raises(AssertionError):
        exchange(proxied)
    assert len(actor.requests) == before
