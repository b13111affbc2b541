"""Under which address a host is announced."""

import socket

import pytest

from nerve import address
from nerve.address import address_towards, advertised_address, resolve
from nerve.settings import Settings
from smartstack.errors import ConfigError
from smartstack.forms import DirectoryUrl, RegistryUrl, ZooKeeperUrl

FILE = DirectoryUrl("/var/lib/registry")


@pytest.mark.parametrize(
    ("host", "found"),
    [
        pytest.param("10.0.0.5", "10.0.0.5", id="an address is itself"),
        pytest.param("2001:DB8::0:1", "2001:db8::1", id="in its canonical form"),
        pytest.param("localhost", "127.0.0.1", id="a name is resolved, IPv4 if it has both"),
    ],
)
def test_a_host_is_resolved_to_one_address(host: str, found: str) -> None:
    """What is registered is always an IP address."""
    assert resolve(host) == found


@pytest.mark.parametrize(
    ("registry", "found"),
    [
        pytest.param(FILE, "127.0.0.1", id="a directory is on this machine"),
        pytest.param(ZooKeeperUrl("127.0.0.9:2181", ""), "127.0.0.1", id="the address that reaches the ensemble"),
        pytest.param(ZooKeeperUrl("[::1]:2181", ""), "::1", id="over IPv6"),
        pytest.param(ZooKeeperUrl("127.0.0.1:2181,127.0.0.1:2182", ""), "127.0.0.1", id="a single machine"),
    ],
)
def test_the_default_is_the_address_that_reaches_the_registry(registry: RegistryUrl, found: str) -> None:
    """Nothing is sent for it, so nobody has to listen there."""
    assert address_towards(registry) == found


SOURCES = {"here:2181": "127.0.0.1", "here6:2181": "::1", "there:2181": "10.0.0.5", "far:2181": "10.1.0.5"}


@pytest.mark.parametrize(
    ("members", "found"),
    [
        pytest.param("here:2181,there:2181,far:2181", "10.0.0.5", id="a member on this host is passed over"),
        pytest.param("gone:2181,here6:2181,far:2181", "10.1.0.5", id="and one that is not found"),
        pytest.param("here:2181,here6:2181", "127.0.0.1", id="a single machine"),
        pytest.param("here:2181,gone:2181", None, id="one that is not found is not this host"),
    ],
)
def test_loopback_is_announced_by_a_single_machine_only(
    members: str, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that has a member of the ensemble reaches that one by 127.0.0.1, where no other host finds it."""

    def source(member: str) -> str:
        if member not in SOURCES:
            raise OSError(f"{member} is not found")
        return SOURCES[member]

    monkeypatch.setattr(address, "_source_towards", source)
    if found is None:
        with pytest.raises(OSError, match="gone:2181 is not found"):
            address_towards(ZooKeeperUrl(members, ""))
    else:
        assert address_towards(ZooKeeperUrl(members, "")) == found


def test_the_setting_wins_over_the_default() -> None:
    """`host` is taken as it is given."""
    assert advertised_address(Settings(registry=FILE, host="10.0.0.5"), "nerve.yaml") == "10.0.0.5"
    assert advertised_address(Settings(registry=FILE), "nerve.yaml") == "127.0.0.1"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param(
            Settings(registry=FILE, host="no.such.name.invalid"),
            "nerve.yaml: host: cannot be resolved to an address: ",
            id="an unknown name",
        ),
        pytest.param(
            Settings(registry=ZooKeeperUrl("no.such.name.invalid:2181", "/r")),
            "nerve.yaml: host: is not given, and this host has no address that reaches "
            "zookeeper://no.such.name.invalid:2181/r: ",
            id="an unknown registry",
        ),
    ],
)
def test_no_address_is_an_error_of_the_settings(settings: Settings, message: str) -> None:
    """It names the key, and what to do."""
    with pytest.raises(ConfigError) as caught:
        advertised_address(settings, "nerve.yaml")
    assert str(caught.value).startswith(message)


def test_a_name_with_ipv6_only_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv4 is preferred, not required."""
    only = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::5", 0, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: only)
    assert resolve("six.example") == "2001:db8::5"
