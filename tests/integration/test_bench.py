"""The benchmarks measure: one through the whole chain, and the client and the proxies that others are made of."""

from pathlib import Path

import pytest

from tests.bench import __main__ as everything
from tests.bench.open_loop import load
from tests.bench.rivals import RIVALS, Setup, answering, running
from tests.support.moody import Moody
from tests.support.pair import Host

PORT = 8090


def test_a_benchmark_is_measured_written_and_documented(tmp_path: Path) -> None:
    """The smallest one: real daemons, JSON beside it, and a page made of that."""
    everything.main(["propagation", "--quick", "--json", str(tmp_path)])
    everything.main(["--document", str(tmp_path / "page.md"), "--json", str(tmp_path)])
    page = (tmp_path / "page.md").read_text()
    assert "python -m tests.bench.propagation --changes 3 --instances 2" in page
    assert "| reloads of HAProxy | 12 changes | 0 |" in page


def test_the_client_tells_what_became_of_each_request(host: Host) -> None:
    """Sent when it is due, answered or not: with the status and who answered, or with none."""
    network = host.address.rpartition(".")[0]
    one, two, nobody = (f"{network}.{number}" for number in (1, 2, 3))
    servers = Moody()
    try:
        for place, status in ((one, 200), (two, 500)):
            servers.open(place, PORT)
            servers.answer(place, PORT, after=0.02, status=status)
        seen = [load(place, PORT, 100, 0.3) for place in (one, two, nobody)]
        servers.hang(one, PORT)
        seen.append(load(one, PORT, 100, 0.3, timeout=0.1))
    finally:
        servers.stop()
    well, failing, refused, hanging = seen
    assert {(each.status, each.by) for each in well} == {(200, f"{one}:{PORT}")}
    assert {(each.status, each.by) for each in failing} == {(500, f"{two}:{PORT}")}
    assert {(each.status, each.by) for each in (*refused, *hanging)} == {(0, "")}
    assert [len(answers) for answers in seen] == [30] * 4
    assert min(each.took for each in well) >= 0.02
    assert min(each.took for each in hanging) >= 0.1
    due = sorted(each.due for each in well)
    assert due[-1] - due[0] == pytest.approx(0.29)


def test_what_is_installed_of_the_others_passes_requests(host: Host) -> None:
    """HAProxy always is; nginx and Envoy are looked at where they are."""
    place = host.instance(1).host
    host.backends.close(place, 8080)
    with answering(place, 8080):
        for number, (name, rival) in enumerate(RIVALS.items(), start=9000):
            if rival.program() is not None:
                with running(name, Setup(host=host.address, port=number, instances=[f"{place}:8080"])):
                    assert {(each.status, each.by) for each in load(host.address, number, 50, 0.2)} == {(200, "hello")}


def test_a_proxy_that_refuses_its_configuration_is_told_with_its_words(host: Host) -> None:
    """Not as something that takes too long."""
    setup = Setup(host=host.address, port=PORT, instances=["nobody.invalid:80"])
    with pytest.raises(RuntimeError, match=r"could not resolve address 'nobody\.invalid'"), running("haproxy", setup):
        pass
