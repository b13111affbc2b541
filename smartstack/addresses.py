"""Addresses as text: hosts, ports and clean paths, without asking any resolver."""

import re
from functools import lru_cache
from ipaddress import ip_address

ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]+)):([0-9]{1,5})")
"""`host:port`, or `[v6]:port`."""

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")


def split_port(text: str) -> tuple[str, int] | None:
    """Host and port of `host:port` or `[v6]:port`; None where it is neither or the port is out of range."""
    match = ADDRESS.fullmatch(text)
    if match is None or not 1 <= int(match[3]) <= 65_535 or (match[1] is not None and ":" not in match[1]):
        return None
    return match[1] or match[2], int(match[3])


@lru_cache(maxsize=1000)  # each check of each service asks, and it takes as long as to connect
def canonical_ip(text: str) -> str | None:
    """The canonical form of an IP address; None where it is none, or is one with a zone (`fe80::1%eth0`)."""
    try:
        return None if "%" in text else str(ip_address(text))
    except ValueError:
        return None


def names_no_machine(address: str) -> bool:
    """Whether an IP address is that of no machine in particular: 0.0.0.0, or multicast."""
    ip = ip_address(address)
    return ip.is_unspecified or ip.is_multicast


def host_name(text: str) -> str | None:
    """A host name as it stands (RFC 1123, and underscores, which container networks use); None where it is none."""
    # A name whose last part is a number is a mistyped IP address (10.0.0.300), and resolvers read it as one.
    if len(text) > 253 or not _HOST_NAME.fullmatch(text) or text.rpartition(".")[2].isdigit():
        return None
    return text


def is_clean(path: str) -> bool:
    """No empty part, no '.' and no '..'."""
    return all(part not in ("", ".", "..") for part in path.removeprefix("/").split("/"))
