"""What the daemons say on their admin addresses, asked as any tool would."""

import http.client
import json
from typing import Any

from smartstack.forms import TcpAddress

_ANSWER_SECONDS = 2.0


def ask(address: TcpAddress, path: str) -> tuple[int, bytes] | None:
    """Status and body; None when nobody answers."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def is_ready(address: TcpAddress) -> bool:
    """Whether the daemon has done its first full turn."""
    answer = ask(address, "/readyz")
    return answer is not None and answer[0] == 200


def status(address: TcpAddress) -> dict[str, Any]:
    """/status; empty when nobody answers."""
    answer = ask(address, "/status")
    if answer is None or answer[0] != 200:
        return {}
    found: dict[str, Any] = json.loads(answer[1])
    return found


def serving(told: dict[str, Any], service: str) -> frozenset[str]:
    """Of synapse's /status: the addresses to which HAProxy sends the requests for a service."""
    instances = told.get("services", {}).get(service, {}).get("instances", ())
    return frozenset(each["address"] for each in instances if each["state"] == "serving")


def share(told: dict[str, Any], service: str, address: str) -> float:
    """Of synapse's /status: which part of its weight an instance gets for how fast it answers; 1.0 where nothing is
    against it."""
    for each in told.get("services", {}).get(service, {}).get("instances", ()):
        if each["address"] == address and each.get("balance") is not None:
            return float(each["balance"]["share"])
    return 1.0


def problem(told: dict[str, Any], service: str) -> str | None:
    """Of synapse's /status: the first thing that is wrong with a service's definition."""
    problems = told.get("problems", {}).get(service, ())
    return str(problems[0]) if problems else None


def haproxy_pid(told: dict[str, Any]) -> int | None:
    """Of synapse's /status: the process that serves."""
    pid: int | None = told.get("haproxy", {}).get("pid")
    return pid


def registered(told: dict[str, Any], pid: int) -> frozenset[str]:
    """Of a nerve's /status, if it is that process's: the services for which the registry has what it should."""
    if told.get("pid") != pid:
        return frozenset()
    return frozenset(name for name, service in told.get("services", {}).items() if service.get("registered"))


def counted(address: TcpAddress, series: str) -> float | None:
    """The sum of a counter over its labels, from /metrics; None when it is not there."""
    answer = ask(address, "/metrics")
    if answer is None:
        return None
    lines = [line for line in answer[1].decode().splitlines() if line.split("{")[0].split(" ")[0] == series]
    return sum(float(line.rpartition(" ")[2]) for line in lines) if lines else None


def traffic(address: TcpAddress) -> dict[str, dict[str, Any]]:
    """What synapse counted in the last minute, by service; only those that had requests."""
    answer = ask(address, "/telemetry/stat?window=60")
    if answer is None or answer[0] != 200:
        return {}
    return {row["service"]: row for row in json.loads(answer[1])["rows"] if row["requests"]}
