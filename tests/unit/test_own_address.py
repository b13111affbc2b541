"""Under which address the others of a fleet reach this host."""

import pytest

from smartstack import own_address
from smartstack.forms import DirectoryUrl, RegistryUrl, ZooKeeperUrl
from smartstack.own_address import address_towards

FILE = DirectoryUrl("/var/lib/registry")


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

    monkeypatch.setattr(own_address, "_source_towards", source)
    if found is None:
        with pytest.raises(OSError, match="gone:2181 is not found"):
            address_towards(ZooKeeperUrl(members, ""))
    else:
        assert address_towards(ZooKeeperUrl(members, "")) == found
