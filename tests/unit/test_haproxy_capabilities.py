"""What a HAProxy can do, by what it says of itself. The words of several versions are in `haproxy_versions/`: those of
2.6, 3.0 and 3.2 as Debian's builds print them, and of 2.4 and of a 2.8 that was built without OpenSSL, shortened."""

from pathlib import Path

import pytest

from synapse.haproxy import program
from synapse.haproxy.capabilities import TABLE, Capability, parse

VERSIONS = Path(__file__).parent / "haproxy_versions"

OLDEST = {Capability.TLS, Capability.LUA, Capability.CERTIFICATES_AT_RUN_TIME}
DEBIAN = {*OLDEST, Capability.AUTHORITIES_AT_RUN_TIME, Capability.HTTP_CLIENT_TLS, Capability.PROMETHEUS}
NEWER = {*DEBIAN, Capability.RELOAD_WITH_ANSWER, Capability.HASH_BY_ADDRESS}

CASES: dict[str, tuple[str, tuple[int, int], set[Capability]]] = {
    "2.4": ("2.4.22-f8e3218", (2, 4), OLDEST),
    "2.6": ("2.6.12-1+deb12u3", (2, 6), DEBIAN),
    "2.8": (
        "2.8.10-1",
        (2, 8),
        {Capability.LUA, Capability.RELOAD_WITH_ANSWER, Capability.REASONS_WITH_ANSWER, Capability.PROMETHEUS},
    ),
    "3.0": ("3.0.11-1+deb13u4", (3, 0), {*NEWER, Capability.REASONS_WITH_ANSWER}),
    "3.2": ("3.2.26-1", (3, 2), NEWER),
}


@pytest.mark.parametrize("version", CASES)
def test_a_version_says_what_it_can(version: str) -> None:
    """By its version and by what it was built with: a 2.8 without OpenSSL has no TLS, a 3.2 without shared memory does
    not say why a reload failed."""
    release, number, capabilities = CASES[version]
    found = parse((VERSIONS / f"{version}.txt").read_text())
    assert found is not None
    assert (found.release, found.version, set(found.capabilities)) == (release, number, capabilities)
    assert {each for each in Capability if found.has(each)} == capabilities


@pytest.mark.parametrize(
    ("text", "release"),
    {
        "old name": ("HA-Proxy version 2.2.9-2 2021/01/17 - https://haproxy.org/\n", "2.2.9-2"),
        "development": ("HAProxy version 3.5-dev5-1234567 2026/08/21 - https://haproxy.org/\n", "3.5-dev5-1234567"),
        "a warning first": ("[WARNING] 1 : x\nHAProxy version 2.8.0 2023/05/31 - x\n", "2.8.0"),
        "another program": ("nginx version: nginx/1.22.1\n", None),
        "silence": ("", None),
    }.values(),
)
def test_the_release_is_found_or_it_is_not_haproxy(text: str, release: str | None) -> None:
    """However the first line is worded; what is no HAProxy's answer is none. Nothing is believed that is not listed."""
    found = parse(text)
    assert (found.release if found else None) == release
    if found is not None:
        assert not found.has(Capability.TLS)


def test_every_capability_says_what_it_needs() -> None:
    """The table has a row for each."""
    assert set(TABLE) == set(Capability)
    assert all(needs.why for needs in TABLE.values())


def test_the_program_of_this_machine_is_asked() -> None:
    """Debian's HAProxy has TLS, and says so."""
    found = program.probe(program.find("haproxy"))
    assert found.version >= program.OLDEST
    assert found.has(Capability.TLS)
