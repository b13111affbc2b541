"""Who else listens where our HAProxy does. The kernel lets two processes of one user share a port without a word
(SO_REUSEPORT, which HAProxy sets), and then each gets a part of the connections."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from smartstack.forms import Listen, TcpAddress
from synapse.haproxy.sockets import canonical, listening_sockets, owner, sockets_of


def shared(addresses: Mapping[str, Sequence[Listen]], ours: Collection[int], proc: Path = Path("/proc")) -> str | None:
    """In words, which address of ours another process listens at too; None when there is none, or when this user may
    not see which sockets are ours."""
    mine = sockets_of(ours, proc)
    if not mine:
        return None
    services = {
        (canonical(listen.host), listen.port): service
        for service, listens in addresses.items()
        for listen in listens
        if isinstance(listen, TcpAddress)
    }
    strangers: dict[tuple[str, int], set[str]] = {}
    for each in listening_sockets(proc):
        if (each.host, each.port) in services and each.inode not in mine:
            strangers.setdefault((each.host, each.port), set()).add(each.inode)
    for (host, port), inodes in sorted(strangers.items()):
        who = owner(inodes, ours, proc)
        if who is not None:
            where = TcpAddress(host, port)
            return f"{services[host, port]}: {who} listens on {where} too, and gets a part of the connections: end it"
    return None
