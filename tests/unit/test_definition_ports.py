"""Several ports of one service: each is a service of its own, as long as nobody else has its name."""

from pathlib import Path

import pytest

from smartstack.definition import Endpoint, OtherPlace, ServiceDefinition, expand, parent_name
from smartstack.forms import TcpAddress
from smartstack.traffic import Proxy
from tests.unit.test_definitions import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty directory of definitions, with a daemon that has not looked yet."""
    return Site(tmp_path)


WEB = "port: 8080\nports: {admin: {port: 9090}}"
PLAIN = "port: 8080"
OTHER = "port: 9091"


def test_a_port_is_a_service_of_its_own() -> None:
    """It has what its endpoint says, and the tether and the warm-up of its parent; the parent stays as it is."""
    admin = Endpoint(
        port=9090,
        check={"type": "tcp"},
        proxy=Proxy(listen=(TcpAddress("127.0.0.1", 3211),)),
        registry_path="/old/admin",
        also_register=(OtherPlace(registry="old"),),
    )
    web = ServiceDefinition(
        port=8080,
        check={"type": "http"},
        proxy=Proxy(listen=(TcpAddress("127.0.0.1", 3210),)),
        registry_path="/old/web",
        also_register=(OtherPlace(path="/older/web"),),
        ports={"admin": admin},
        tether="off",
        warmup=30.0,
    )
    services = expand("web", web)
    assert list(services) == ["web", "web.admin"]
    assert services["web"] is web
    assert services["web.admin"] == ServiceDefinition(
        port=9090,
        check={"type": "tcp"},
        proxy=Proxy(listen=(TcpAddress("127.0.0.1", 3211),)),
        registry_path="/old/admin",
        also_register=(OtherPlace(registry="old"),),
        tether="off",
        warmup=30.0,
    )


def test_a_port_without_anything_takes_nothing_of_its_parent() -> None:
    """No proxy and no place in the registry of the parent: two services would have them."""
    web = ServiceDefinition(
        port=8080,
        check={"type": "http"},
        proxy=Proxy(listen=(TcpAddress("127.0.0.1", 3210),)),
        registry_path="/old/web",
        ports={"admin": Endpoint(port=9090)},
    )
    assert expand("web", web)["web.admin"] == ServiceDefinition(port=9090)


def test_whose_port_a_service_may_be() -> None:
    """A port's name has no dot, so what stands before the last one is the only service whose port it can be."""
    assert [parent_name(name) for name in ("web", "web.admin", "web.v2.admin")] == ["", "web", "web.v2"]


def test_ports_are_beside_their_service(site: Site) -> None:
    """The view holds both, in the order of names, and the same objects as long as the file stays as it is."""
    site.write("web.yaml", WEB)
    site.write("web-x.yaml", OTHER)
    first = site.look()
    assert list(first.definitions) == ["web", "web-x", "web.admin"]
    assert first.definitions["web.admin"] == ServiceDefinition(port=9090)
    assert set(first.definitions["web"].ports) == {"admin"}
    assert first.problems == {}
    site.write("web-x.yaml", "port: 9092")
    second = site.look()
    assert second.definitions["web.admin"] is first.definitions["web.admin"]


def test_ports_come_and_go_with_their_lines(site: Site) -> None:
    """A port that is added, changed or deleted in the file is added, changed or gone; with the file all are gone."""
    path = site.write("web.yaml", WEB)
    assert site.ports() == {"web": 8080, "web.admin": 9090}
    site.write("web.yaml", "port: 8080\nports: {admin: {port: 9091}, metrics: {port: 9100}}")
    assert site.ports() == {"web": 8080, "web.admin": 9091, "web.metrics": 9100}
    site.write("web.yaml", PLAIN)
    assert site.ports() == {"web": 8080}
    site.write("web.yaml", WEB)
    assert site.ports() == {"web": 8080, "web.admin": 9090}
    path.unlink()
    assert site.ports() == {}
    assert site.kept() == set()


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_broken_edit_keeps_the_ports(site: Site, restarted: bool) -> None:
    """What is wrong with one port leaves the service and all its ports as they were, also over a restart."""
    site.write("web.yaml", WEB)
    site.look()
    site.write("web.yaml", "port: 8081\nports: {admin: {port: x}, metrics: {port: 9100}}")
    if restarted:
        site.start()
    assert site.ports() == {"web": 8080, "web.admin": 9090}
    assert site.said() == {
        "web": ["DIR/web.yaml:2:23: ports.admin.port: must be a whole number from 1 to 65535, got x"]
    }
    assert site.kept() == {"web.yaml"}


def test_a_name_that_becomes_too_long(site: Site) -> None:
    """Service and port together have the length of a service's name at the most."""
    name = "w" * 90
    site.write(f"{name}.yaml", f"port: 1\nports:\n  {'a' * 9}: {{port: 2}}\n  {'b' * 10}: {{port: 3}}")
    assert site.ports() == {}
    [said] = site.said()[name]
    assert f".yaml:4:3: ports.{'b' * 10}: is too long: the names of service and port have at most 100" in said
    site.write(f"{name}.yaml", f"port: 1\nports:\n  {'a' * 9}: {{port: 2}}")
    assert len(site.ports()) == 2


FILE_SAYS = "DIR/web.admin.yaml: is the service web.admin, and so is ports.admin in web.yaml; delete one of them"
PORT_SAYS = "DIR/web.yaml: ports.admin: is the service web.admin, and so is web.admin.yaml; delete one of them"
BOTH_SAY = {"web": [PORT_SAYS], "web.admin": [FILE_SAYS]}


def test_a_file_beside_a_port_of_its_name(site: Site) -> None:
    """The port was there first: it stays, both are told, and edits of either wait until one of the two is gone."""
    site.write("web.yaml", WEB)
    site.look()
    second = site.write("web.admin.yaml", OTHER)
    for _ in range(2):
        assert site.ports() == {"web": 8080, "web.admin": 9090}
        assert site.said() == BOTH_SAY
    site.write("web.yaml", WEB.replace("8080", "8081"))
    assert site.ports() == {"web": 8080, "web.admin": 9090}
    assert site.said() == BOTH_SAY
    second.unlink()
    assert site.ports() == {"web": 8081, "web.admin": 9090}
    assert site.said() == {}


def test_a_port_beside_a_file_of_its_name(site: Site) -> None:
    """The file was there first: it stays, both are told, and without the file the port takes its place at once."""
    first = site.write("web.admin.yaml", OTHER)
    site.write("web.yaml", PLAIN)
    site.look()
    site.write("web.yaml", WEB.replace("8080", "8081"))
    for _ in range(2):
        assert site.ports() == {"web": 8080, "web.admin": 9091}
        assert site.said() == BOTH_SAY
    first.unlink()
    assert site.ports() == {"web": 8081, "web.admin": 9090}
    assert site.said() == {}


def test_a_port_moves_into_a_file(site: Site) -> None:
    """The file is added, then the port deleted: at no time is the service gone."""
    site.write("web.yaml", WEB)
    site.look()
    site.write("web.admin.yaml", OTHER)
    assert site.ports() == {"web": 8080, "web.admin": 9090}
    site.write("web.yaml", PLAIN)
    assert site.ports() == {"web": 8080, "web.admin": 9091}
    assert site.said() == {}


def test_both_at_once_and_nothing_before(site: Site) -> None:
    """With nothing to stay at, neither is taken until one of the two is gone; the others go on."""
    site.write("web.yaml", WEB)
    site.write("web.admin.yaml", OTHER)
    site.write("api.yaml", PLAIN)
    assert site.ports() == {"api": 8080}
    assert site.said() == BOTH_SAY
    site.write("web.yaml", PLAIN)
    assert site.ports() == {"api": 8080, "web": 8080, "web.admin": 9091}
    assert site.said() == {}


def test_whoever_was_there_first_is_there_after_a_restart(site: Site) -> None:
    """What held before is in the copies."""
    site.write("web.admin.yaml", OTHER)
    site.look()
    site.write("web.yaml", WEB)
    site.look()
    site.start()
    assert site.ports() == {"web.admin": 9091}
    assert site.said() == BOTH_SAY


def test_a_text_that_is_broken_claims_nothing(site: Site) -> None:
    """A port that was never taken does not hold a file up once its own file cannot be read any more."""
    site.write("web.admin.yaml", OTHER)
    site.write("web.yaml", PLAIN)
    site.look()
    site.write("web.yaml", WEB)
    assert site.said() == BOTH_SAY
    site.write("web.yaml", "port: x")
    site.write("web.admin.yaml", "port: 9092")
    assert site.ports() == {"web": 8080, "web.admin": 9092}
    assert set(site.said()) == {"web"}


def test_a_file_that_is_told_of_a_broken_text_stays_told(site: Site) -> None:
    """A file beside a port that holds, whose own file is broken since: both have their problem at every look."""
    site.write("web.yaml", WEB)
    site.look()
    site.write("web.yaml", "port: x")
    site.write("web.admin.yaml", OTHER)
    for _ in range(3):
        assert site.ports() == {"web": 8080, "web.admin": 9090}
        assert site.said() == {
            "web": ["DIR/web.yaml:1:7: port: must be a whole number from 1 to 65535, got x"],
            "web.admin": [FILE_SAYS],
        }
