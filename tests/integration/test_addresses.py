"""Two services that want one address: the one that has it keeps it."""

from tests.support.clients import ask
from tests.support.eventually import eventually
from tests.support.pair import Host


def test_a_newcomer_does_not_take_the_address_of_a_service_that_runs(host: Host) -> None:
    """A definition with the address of another is refused whatever its name, and the others go on being reloaded."""
    host.serve("web", 3210)
    host.start()
    eventually(lambda: ask(host.address, 3210))
    host.define("aaa", 3210)
    why = f"{host.address}:3210 is the address of web already"
    eventually(lambda: (host.told("aaa")["refused_definition"] or "").endswith(why))
    assert host.told("web")["refused_definition"] is None
    host.serve("zzz", 3230)
    eventually(lambda: ask(host.address, 3230))
    assert ask(host.address, 3210)
    (host.services / "web.yaml").unlink()
    eventually(lambda: host.told("aaa")["refused_definition"] is None, within=45)
