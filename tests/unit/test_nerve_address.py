"""Under which address a host is announced."""

import socket

import pytest

from nerve.address import advertised_address, resolve
from nerve.settings import Settings
from smartstack.errors import ConfigError
from smartstack.forms import DirectoryUrl, ZooKeeperUrl

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
