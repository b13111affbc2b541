"""Who does without the proxy finds services too: by asking, by waiting, in files that a command follows."""

import json
import threading
import time
from pathlib import Path

import requests

from tests.support.eventually import eventually
from tests.support.pair import Host


def addresses(view: dict[str, object]) -> list[str]:
    instances = view["instances"]
    assert isinstance(instances, list)
    return [each["address"] for each in instances]


def test_a_service_without_a_proxy_is_found(any_host: Host) -> None:
    """`proxy` absent: no address here, every instance told, and all that HAProxy serves is as it would be without."""
    host = any_host
    host.serve("web", 3210)
    host.write("services/cassandra.yaml", "port: 8080")
    for number in (1, 2):
        host.join("cassandra", number, weight=7)
    host.start()
    view = eventually(lambda: host.synapse.get("/services/cassandra").json())
    assert view["listen"] is None
    assert addresses(view) == [host.instance(1).address, host.instance(2).address]
    assert {each["weight"] for each in view["instances"]} == {7}
    assert {each["up"] for each in view["instances"]} == {None}
    assert "cassandra" not in host.haproxy_file()
    listed = host.synapse.get("/services").json()
    assert [each["service"] for each in listed["services"]] == ["cassandra", "web"]
    assert host.synapse.get("/services/nobody").status_code == 404


def test_who_waits_hears_of_the_next_change(host: Host) -> None:
    """A long poll ends when an instance comes, not when another service changes, and after its time in any case."""
    host.serve("web", 3210)
    host.serve("api", 3211)
    host.start()
    first = host.synapse.get("/services/web").json()
    answers: list[tuple[float, dict[str, object]]] = []

    def wait() -> None:
        path = f"/services/web?after={first['number']}&wait=20s"
        answer = requests.get(f"http://{host.admin}{path}", timeout=30).json()
        answers.append((time.monotonic(), answer))

    waiter = threading.Thread(target=wait)
    waiter.start()
    host.join("api", 4)
    eventually(lambda: host.instance(4).address in host.members("api"))
    assert waiter.is_alive()
    joined = time.monotonic()
    host.join("web", 4)
    waiter.join(10)
    [(answered, answer)] = answers
    assert host.instance(4).address in addresses(answer)
    assert answered - joined < 5
    number = answer["number"]
    assert host.synapse.get(f"/services/web?after={number}&wait=100ms").json()["number"] >= number
    for query in ("after=x", "wait=1s", "after=1&wait=1", "after=1&for=ever"):
        assert host.synapse.get(f"/services/web?{query}").status_code == 400, query


def test_files_follow_the_registry_and_a_command_follows_them(host: Host, tmp_path: Path) -> None:
    """JSON, variables for a shell and a template of one's own; the command runs after a change, once for a burst."""
    out, told = tmp_path / "out", tmp_path / "told"
    out.mkdir()
    (out / "web.json").write_text("not JSON")
    (out / "somebody-elses.json").write_text("{}")
    template = tmp_path / "upstream.conf.j2"
    template.write_text("{% for each in instances %}server {{ each.address }};\n{% endfor %}")
    host.settings["outputs"] = [
        {"directory": str(out), "command": ["/bin/sh", "-c", f'echo "$SMARTSTACK_SERVICES" >> {told}']},
        {"directory": str(out), "format": "env", "services": ["web"]},
        {"directory": str(out), "format": "template", "template": str(template)},
    ]
    host.serve("web", 3210, 2)
    host.serve("api", 3211, 1)
    host.start()
    eventually(
        lambda: addresses(json.loads((out / "web.json").read_text())) == [host.instance(n).address for n in (1, 2)]
    )
    eventually(
        lambda: (
            (out / "web.env").read_text().splitlines()[1:]
            == [
                "WEB_COUNT=2",
                f'WEB_INSTANCES="{host.instance(1).address} {host.instance(2).address}"',
            ]
        )
    )
    eventually(lambda: (out / "api.conf").read_text() == f"server {host.instance(1).address};\n")
    assert not (out / "api.env").exists()
    eventually(lambda: told.exists() and "web" in told.read_text())
    host.join("api", 5)
    eventually(lambda: told.read_text().splitlines()[-1] == "api")
    before = (out / "web.json").stat().st_ino
    (host.services / "api.yaml").unlink()
    eventually(lambda: not (out / "api.json").exists() and not (out / "api.conf").exists(), within=10)
    assert (out / "somebody-elses.json").read_text() == "{}"
    assert (out / "web.json").stat().st_ino == before
    host.synapse.stop()
    assert (out / "web.json").exists()


def test_outputs_that_fail_hold_up_nobody(host: Host, tmp_path: Path) -> None:
    """A template that is wrong, a command that fails and one that hangs: told in /status, and the rest goes on."""
    wrong = tmp_path / "wrong.j2"
    wrong.write_text("{{ nothing.such }}")
    host.settings["outputs"] = [
        {"directory": str(tmp_path / "a"), "format": "template", "template": str(wrong)},
        {"directory": str(tmp_path / "b"), "command": ["/bin/false"]},
        {"directory": str(tmp_path / "c"), "command": ["/bin/sleep", "60"], "timeout": "200ms"},
        {"directory": "/proc/nowhere"},
    ]
    host.serve("web", 3210)
    host.start()
    eventually((tmp_path / "c" / "web.json").exists)
    host.join("web", 4)
    eventually(lambda: host.instance(4).address in host.members("web"), within=3)

    def told() -> bool:
        said = " ".join(host.synapse.status()["problems"].get("", []))
        for words in ("'nothing' is undefined", "/bin/false ended with 1", "took longer than 0.2 s", "/proc/nowhere"):
            assert words in said, said
        return True

    eventually(told, within=15)
    host.settings["outputs"] = []
    host.configure()
    eventually(lambda: host.synapse.status()["problems"] == {}, within=15)
