"""What this HAProxy can do, by what it says of itself (`haproxy -vv`): its version, and what it was built with. Pure.

Everything else that synapse uses is in every version since 2.4. The tests have the words of several versions.
"""

import enum
import re
from dataclasses import dataclass

_VERSION = re.compile(r"^HA-?Proxy version ((\d+)\.(\d+)\S*)", re.MULTILINE)
_FEATURES = re.compile(r"^Feature list :(.*)$", re.MULTILINE)


class Capability(enum.Enum):
    """Something that not every HAProxy has."""

    TLS = "tls"
    CERTIFICATES_AT_RUN_TIME = "certificates at run time"
    AUTHORITIES_AT_RUN_TIME = "certificate authorities at run time"
    HTTP_CLIENT_TLS = "tls of its own HTTP client"
    RELOAD_WITH_ANSWER = "reload with an answer"
    REASONS_WITH_ANSWER = "reasons for a failed reload"
    HASH_BY_ADDRESS = "hash by address"
    PROMETHEUS = "prometheus"
    LUA = "lua"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Since which version, and built with what. `why` says what it is for, or what is done without it."""

    since: tuple[int, int]
    feature: str | None
    why: str


TABLE = {
    Capability.TLS: Needs(since=(2, 4), feature="OPENSSL", why="tls in a definition; refused by HAProxy without"),
    Capability.CERTIFICATES_AT_RUN_TIME: Needs(since=(2, 4), feature="OPENSSL", why="'set ssl cert'"),
    Capability.AUTHORITIES_AT_RUN_TIME: Needs(
        since=(2, 5), feature="OPENSSL", why="'set ssl ca-file'; a renewed authority takes a reload before"
    ),
    Capability.HTTP_CLIENT_TLS: Needs(
        since=(2, 6), feature="OPENSSL", why="'httpclient.ssl.verify none' saves 1.3 MB; not known before"
    ),
    Capability.RELOAD_WITH_ANSWER: Needs(
        since=(2, 7), feature=None, why="'reload' on the master's socket answers Success=; before, 'show proc' is asked"
    ),
    Capability.REASONS_WITH_ANSWER: Needs(since=(2, 7), feature="SHM_OPEN", why="and says why, after Success=0"),
    Capability.HASH_BY_ADDRESS: Needs(
        since=(3, 0), feature=None, why="'hash-key addr-port': every host has the same ring; before, it goes by slots"
    ),
    Capability.LUA: Needs(since=(2, 4), feature="LUA", why="delays of faults before 3.2, which waits by itself"),
    Capability.PROMETHEUS: Needs(since=(2, 4), feature="PROMEX", why="HAProxy's own figures in Prometheus's format"),
}
"""What each capability needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """`release` is the whole version, such as 2.6.12-1+deb12u3."""

    release: str
    version: tuple[int, int]
    capabilities: frozenset[Capability]

    def has(self, capability: Capability) -> bool:
        """Whether this HAProxy can do that."""
        return capability in self.capabilities


def parse(text: str) -> Capabilities | None:
    """The answer to `haproxy -vv`, None when it is not one."""
    match = _VERSION.search(text)
    if match is None:
        return None
    version = int(match[2]), int(match[3])
    listed = _FEATURES.search(text)
    features = {word[1:] for word in listed[1].split() if word.startswith("+")} if listed else set()
    if "Built with the Prometheus exporter" in text or "prometheus-exporter" in text:
        features.add("PROMEX")  # 2.4 does not always list it
    can = {
        capability
        for capability, needs in TABLE.items()
        if version >= needs.since and (needs.feature is None or needs.feature in features)
    }
    return Capabilities(release=match[1], version=version, capabilities=frozenset(can))
