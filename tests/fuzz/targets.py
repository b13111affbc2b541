"""The doors for what comes from outside, each as a function of bytes.

A target returns, whatever the bytes are. Anything that it raises is a finding: an exception that escaped, or an answer
that is not one of those that are documented.
"""

import hmac
import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast
from urllib.parse import parse_qsl

from waitress.adjustments import Adjustments
from waitress.task import WSGITask

import nerve.actions
import nerve.settings
import synapse.actions
import synapse.settings
from smartstack import maintenance
from smartstack.actions import BadRequest, read_arguments
from smartstack.admin import AdminServer
from smartstack.definition import ServiceDefinition
from smartstack.errors import ConfigError, SmartStackError
from smartstack.forms import TcpAddress
from smartstack.http_limits import LIMITS, LimitedChannel
from smartstack.inbox import Inbox
from smartstack.installed import every_family
from smartstack.instance import (
    NAME,
    WEIGHT_RANGE,
    Instance,
    decode,
    encode,
    encoded_node_name,
    node_name,
    payload_in_name,
    sequence_in_name,
)
from smartstack.registry.protocol import Record
from smartstack.responses import text_response
from smartstack.tokens import Token
from smartstack.traffic_forms import CALLER_NAME
from smartstack.validation import validate
from smartstack.yaml_file import load
from synapse import dashboard, shifts
from synapse.fleet.asking import body_of
from synapse.fleet.merge import Merged
from synapse.fleet.peer import peers
from synapse.haproxy import answers, capabilities, certificate_commands, map_commands
from synapse.proxy import Service, slot_count, targets
from synapse.render import Renderer, seat
from synapse.selection import one_per_address
from synapse.settings import HAProxySettings
from synapse.telemetry.line import Bad, parse
from synapse.telemetry.parameters import read_filter, read_rate, read_scope, read_window
from synapse.telemetry.request import Request
from tests.support.definitions import placed
from tests.support.haproxy_grammar import read_sections

KEY: Final = "0123456789abcdef"
"""The feed's key, as it stands in the seeds: what is behind it is reached only by who knows it."""

TESTS: Final = Path(__file__).parent.parent
CORPUS: Final = TESTS / "fuzz" / "corpus"
GOLDEN: Final = (TESTS / "golden" / "config", TESTS / "golden" / "bad_definitions")

_ENVIRONMENT: Final = {"PORT": "8080", "EVIL": "a\n${PORT}: ["}
_FAMILIES: Final = every_family()
_RENDERER: Final = Renderer(HAProxySettings(), "/run/haproxy.sock", (2, 6))


def node(data: bytes) -> None:
    """A node of the registry: its name, and behind the first line end its payload."""
    name, _, payload = data.partition(b"\n")
    text = name.decode("utf-8", "replace")
    assert sequence_in_name(text) >= -(10**10)
    for found in (decode(payload), decode(payload_in_name(text) or b"")):
        if isinstance(found, str):
            assert found.isprintable() and len(found) < 200
            continue
        _harmless(found)
        assert decode(encode(found)) == found
        assert decode(payload_in_name(encoded_node_name(found) or "") or encode(found)) == found
        record = Record(node=node_name(found), instance=found)
        assert one_per_address([record, record]) == (found,)
        assert len(peers([record])) == 1


def _harmless(found: Instance) -> None:
    assert found.host == str(ipaddress.ip_address(found.host)) and "%" not in found.host
    assert 1 <= found.port <= 65_535
    assert found.name is None or NAME.fullmatch(found.name)
    assert found.weight is None or found.weight in WEIGHT_RANGE
    for text in (found.haproxy_server_options or "", *(each for label in found.labels for each in label)):
        assert text.isprintable()


def definition(data: bytes) -> None:
    """The YAML of a service; what passes is rendered, and read back as its own two sections and no other."""
    found = _model(ServiceDefinition, data)
    if found is None or found.proxy is None or found.proxy.tls is not None:
        return
    service = Service(
        name="web", proxy=found.proxy, targets=targets(placed(()), found.proxy), slots=slot_count(None, 0)
    )
    sections = read_sections(_RENDERER.text(service, seat(service, {})))
    wanted = [["frontend", "web"]] if found.proxy.addresses else []
    assert [section.words for section in sections] == [*wanted, ["backend", "web"]]


def nerve_settings(data: bytes) -> None:
    """nerve.yaml."""
    _model(nerve.settings.Settings, data)


def synapse_settings(data: bytes) -> None:
    """synapse.yaml."""
    _model(synapse.settings.Settings, data)


def _model(model: type[Any], data: bytes) -> Any:
    try:
        return validate(model, load(data, "f.yaml", _ENVIRONMENT), path="f.yaml", families=_FAMILIES)
    except ConfigError as error:
        problems = error.problems
    assert problems
    assert all(str(each).isprintable() and len(str(each)) < 1000 for each in problems)
    return None


def reply(data: bytes) -> None:
    """What HAProxy answers on its sockets, to every question that is asked there."""
    text = data.decode("utf-8", "replace")
    info = answers.parse_info(text)
    assert info is None or info.pid >= 0
    processes = answers.parse_processes(text)
    assert processes is None or processes.master > 0
    for slots in answers.parse_servers(text).values():
        assert all(slot.port >= 0 and slot.weight >= 0 and slot.name for slot in slots)
    assert min(answers.parse_load(text)) >= 0
    assert all(min(load.current, load.retried) >= 0 for load in answers.parse_server_loads(text).values())
    for each in answers.split_replies(text):
        answers.succeeded(each)
    for parser in _REPLY_PARSERS:
        parser(text)


_REPLY_PARSERS: Final[tuple[Callable[[str], object], ...]] = (
    answers.parse_backend_id,
    answers.parse_reload,
    answers.alerts,
    capabilities.parse,
    certificate_commands.parse_shown,
    certificate_commands.parse_loaded,
    map_commands.parse_shown,
    lambda text: map_commands.parse_number(text, "haproxy.map"),
)


def feed(data: bytes) -> None:
    """A datagram at the feed's address."""
    told = parse(data, KEY)
    assert isinstance(told, Bad | Request)
    if isinstance(told, Request):
        assert data.startswith(f"S1\t{KEY}\t".encode())
        assert 0 <= min(told.total_ms, told.status) <= max(told.total_ms, told.status, told.sent_bytes) <= 2**53
        assert 0 < told.share <= 1
        assert told.source_kind == "host" or CALLER_NAME.fullmatch(told.source)


def peer(data: bytes) -> None:
    """What another synapse answers, or who listens at its address."""
    body = body_of(data)
    for kind in ("rows", "edges"):
        merged = Merged(kind)
        said = merged.take("host", body if isinstance(body, bytes) else data)
        assert isinstance(said, float) or said.isprintable()
        json.dumps(merged.rows(), allow_nan=False)


def state(data: bytes) -> None:
    """The files that a daemon kept for itself, after somebody else wrote them."""
    for found in (shifts.load(data), maintenance.load(data, _WORDING)):
        assert not isinstance(found, str) or found.isprintable()


_WORDING: Final = maintenance.Wording(daemon="nerve", noun="drain", done="drained", is_scope=bool)


class _Orders(Inbox[Any]):
    """Notes what the loop would be asked for, and answers at once."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.asked: list[object] = []

    def ask(self, order: Any, timeout_seconds: float = 0.0) -> Any:
        self.asked.append(order)
        return {}

    def tell(self, order: Any) -> None:
        self.asked.append(order)


_ORDERS: Final = _Orders()
_STATUS: Final = cast(Any, SimpleNamespace(services={"web": None, "api": None}, maintenances={}))
_ACTIONS: Final = {
    **nerve.actions.actions(_ORDERS, lambda: _STATUS),
    **synapse.actions.actions(_ORDERS),
}
del _ACTIONS["/log-level"]  # it would change this process's own


def action(data: bytes) -> None:
    """The body of a POST that has the right token, to every action of both daemons."""
    try:
        arguments = read_arguments("application/json", data)
    except BadRequest:
        return
    for each in _ACTIONS.values():
        with suppress(SmartStackError):
            assert each(arguments).status == 200
    _ORDERS.asked.clear()


def question(data: bytes) -> None:
    """The parameters of a question about requests."""
    query = dict(parse_qsl(data.decode("latin-1"), keep_blank_values=True))
    for read in (read_scope, read_window, read_rate, read_filter):
        with suppress(BadRequest):
            read(query)


_DOCUMENTED: Final = frozenset({200, 400, 401, 403, 404, 405, 413, 431, 501})


def http(data: bytes) -> None:
    """Whatever is sent to an admin address, on one connection: documented answers, and no order without the token."""
    statuses = set(_answers(data))
    assert not _ORDERS.asked
    assert statuses <= _DOCUMENTED, statuses


def _answers(data: bytes) -> Iterator[int]:
    """The statuses of what is answered, as waitress reads a connection: request by request, until one is wrong."""
    request = LimitedChannel.parser_class(_ADJUSTMENTS)
    while data:
        consumed = request.received(data)
        if request.error is not None:
            yield request.error.code
            return
        if request.completed:
            if not request.empty:
                response = _SERVER._respond(WSGITask(_CONNECTION, request).get_environment())
                assert len(response.body) < 100_000
                yield response.status
            request = LimitedChannel.parser_class(_ADJUSTMENTS)
        elif not consumed:
            return
        data = data[consumed:]


class _Unknown(Token):
    """A token that was written, and that nobody knows."""

    @property
    def was_written(self) -> bool:
        """It was."""
        return True

    @property
    def problem(self) -> str | None:
        """None."""
        return None

    def opens(self, offered: str) -> bool:
        """Never; after the comparison that the real one makes."""
        return hmac.compare_digest(offered.encode(), KEY.encode()) and False


_ADJUSTMENTS: Final = Adjustments(**LIMITS)
_CONNECTION: Final = SimpleNamespace(
    server=SimpleNamespace(server_name="x", effective_port=1, adj=_ADJUSTMENTS),
    addr=("127.0.0.1", 1),
    creation_time=0,
    check_client_disconnected=lambda: False,
)
_SERVER: Final = AdminServer(
    TcpAddress("127.0.0.1", 3200),
    {"/status": lambda: text_response(200, "ok")},
    _ACTIONS,
    _Unknown("/nowhere"),
    prefixes={"/dashboard/": dashboard.file},
    questions={"/telemetry/stat": lambda rest, query: text_response(200, ascii((rest, read_scope(query))))},
)

Target = Callable[[bytes], None]

TARGETS: Final[Mapping[str, Target]] = {
    "action": action,
    "definition": definition,
    "feed": feed,
    "http": http,
    "nerve-settings": nerve_settings,
    "node": node,
    "peer": peer,
    "question": question,
    "reply": reply,
    "state": state,
    "synapse-settings": synapse_settings,
}


def seeds(name: str) -> tuple[Path, ...]:
    """The directories of a target's seeds; those of YAML are the golden files."""
    own = (CORPUS / name,) if (CORPUS / name).is_dir() else ()
    return (*own, *GOLDEN) if name in ("definition", "nerve-settings", "synapse-settings") else own
