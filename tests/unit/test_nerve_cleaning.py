"""What of this host's nodes goes, what stays, and what is only told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.cleaning import Fate, Sessions, directories, judge, may_matter, names_host, verdicts
from nerve.cli.clean import Outcome, Report, report_lines
from smartstack.definition import Endpoint, OtherPlace, ServiceDefinition, expand
from smartstack.instance import Instance, encode, encoded_node_name
from smartstack.registry.survey import Holder, Node, Survey, Unread

HERE = "10.0.0.5"
HOSTS = frozenset({HERE, "2001:db8::5"})
OURS = Instance(host=HERE, port=8080, name="here")
OTHERS = Instance(host="10.0.0.6", port=8080, name="there")
SESSIONS = Sessions(running="0x1a", saved="0x1b")
OUR_NAME = "10.0.0.5_0000008080"


def node(
    payload: bytes | Instance = OURS,
    *,
    name: str = OUR_NAME,
    holder: Holder = Holder.NOBODY,
    session: str | None = None,
    has_children: bool = False,
) -> Node:
    """A node of this host that nobody holds, but for what is said."""
    return Node(
        where=f"/services/web/{name}",
        name=name,
        payload=encode(payload) if isinstance(payload, Instance) else payload,
        holder=Holder.ALIVE if session is not None else holder,
        session=session,
        has_children=has_children,
    )


FATES = [
    pytest.param(node(), Fate.GOES, "nobody holds it", id="nobody's, and ours by its payload"),
    pytest.param(node(name="i-0abc_0000000017"), Fate.GOES, "nobody holds it", id="ours by its payload only"),
    pytest.param(node(b""), Fate.GOES, "it is empty", id="nobody's, empty, and ours by its name"),
    pytest.param(node(b"{"), Fate.GOES, "payload is not JSON", id="nobody's, damaged, and ours by its name"),
    pytest.param(node(session="0x1a"), Fate.HELD, "the nerve that runs here", id="the running nerve's"),
    pytest.param(node(session="0x1b"), Fate.HELD, "saved session", id="of the session that the last nerve left"),
    pytest.param(node(session="0x2c"), Fate.STAYS, "session 0x2c holds it", id="of another session"),
    pytest.param(node(b"", session="0x2c"), Fate.STAYS, "session 0x2c", id="at our place, of another session, empty"),
    pytest.param(node(holder=Holder.ALIVE), Fate.HELD, "the process that wrote it lives", id="file: with its process"),
    pytest.param(node(holder=Holder.HAND), Fate.STAYS, '"static": true', id="file: written by hand"),
    pytest.param(node(has_children=True), Fate.STAYS, "nodes below it", id="nobody's, and something stands below it"),
    pytest.param(node(b"", has_children=True), Fate.STAYS, "nodes below it", id="empty, and something stands below it"),
    pytest.param(node(b"", name="x"), Fate.UNCLEAR, "it is empty", id="empty, and anybody's"),
    pytest.param(node(b"\xff", name="10.0.0.6_0000008080"), Fate.UNCLEAR, "UTF-8", id="damaged, named after another"),
    pytest.param(
        node(b'{"host":"box7","port":80}', name="box7_0000000001"), Fate.UNCLEAR, "box7", id="of a host with a name"
    ),
    pytest.param(node(OTHERS), None, "", id="another host's, whatever its name says"),
    pytest.param(node(OTHERS, session="0x2c"), None, "", id="another host's, and held"),
    pytest.param(node(b"", name="x", session="0x2c"), None, "", id="empty, but somebody holds it"),
    pytest.param(node(b"", name="x", has_children=True), None, "", id="a directory"),
    pytest.param(node(b'{"static":true}', name="x", holder=Holder.HAND), None, "", id="a hand's, of nobody we know"),
]


@pytest.mark.parametrize(("seen", "fate", "why"), FATES)
def test_only_what_is_ours_and_nobodys_goes(seen: Node, fate: Fate | None, why: str) -> None:
    """The table of fates: what is held stays, what does not say whose it is stays, both with the reason."""
    verdict = judge(seen, HOSTS, SESSIONS)
    if fate is None:
        assert verdict is None
        return
    assert verdict is not None
    assert (verdict.fate, verdict.where) == (fate, seen.where)
    assert why in verdict.why
    assert (verdict.node is seen) == (fate is Fate.GOES)


def test_no_session_is_taken_for_ours_while_none_is_known() -> None:
    """A host without a running nerve and without a saved session: whoever holds a node is somebody else."""
    verdict = judge(node(session="0x1a"), HOSTS, Sessions())
    assert verdict is not None
    assert verdict.fate is Fate.STAYS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(OUR_NAME, True, id="as nerve names it"),
        pytest.param("2001:db8::5_0000000080", True, id="IPv6"),
        pytest.param("10.0.0.50_0000008080", False, id="an address that begins like ours"),
        pytest.param("x10.0.0.5_0000008080", False, id="something before it"),
        pytest.param("10.0.0.5_8080", False, id="not ten digits"),
        pytest.param("10.0.0.5_00000080800", False, id="eleven digits"),
        pytest.param("10.0.0.5_000000808\u0660", False, id="a digit of another script"),
        pytest.param("10.0.0.5", False, id="no digits"),
        pytest.param("_0000008080", False, id="no address"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_a_name_says_an_address_in_one_form_only(name: str, expected: bool) -> None:
    """`<address>_<10 digits>`, exactly: what is only like it may be somebody's."""
    assert names_host(name, HOSTS) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(encoded_node_name(OURS), True, id="ours in the name"),
        pytest.param(encoded_node_name(OTHERS), False, id="another's in the name"),
        pytest.param("base64_4_e30K_0000000001", True, id="nothing of use in the name"),
        pytest.param("10.0.0.6_0000008080", True, id="the payload is not in the name"),
    ],
)
def test_what_says_in_its_name_that_it_is_anothers_is_not_looked_at(name: str, expected: bool) -> None:
    """A fleet that has its payloads in the names is tidied up without a read of its nodes."""
    assert may_matter(name, HOSTS) is expected


def test_every_place_of_every_definition_is_looked_into() -> None:
    """By registry: the usual path, one of its own, further places, and all that of each port; announced or not."""
    web = ServiceDefinition(
        port=80,
        registry_path="/nerve/web/services",
        also_register=(
            OtherPlace(registry="old"),
            OtherPlace(path="services/www"),
            OtherPlace(registry="o", path="/x"),
        ),
        ports={"admin": Endpoint(port=81, also_register=(OtherPlace(registry="old"),))},
    )
    definitions = {**expand("web", web), "api": ServiceDefinition(port=82)}
    assert directories(definitions) == {
        "": {"/nerve/web/services", "services/www", "services/web.admin", "services/api"},
        "old": {"/nerve/web/services", "services/web.admin"},
        "o": {"/x"},
    }


def test_a_node_of_ours_that_cannot_be_read_is_told() -> None:
    """It is not known what it is, so it stays; of another's nothing is said."""
    survey = Survey(
        unread=(
            Unread(where="/services/web", name=None, reason="no permission"),
            Unread(where=f"/services/web/{OUR_NAME}", name=OUR_NAME, reason="no permission"),
            Unread(where="/services/web/x", name="x", reason="no permission"),
        )
    )
    [verdict] = verdicts(survey, HOSTS, SESSIONS)
    assert (verdict.fate, verdict.node) == (Fate.UNCLEAR, None)
    assert verdict.why == "it cannot be read: no permission"


NAMES = st.sampled_from([OUR_NAME, "10.0.0.6_0000008080", "x", encoded_node_name(OURS) or "", "", "../\n"])
PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([encode(OURS), encode(OTHERS), b"", b"[" * 100_000, b"null", b'{"host":"10.0.0.5"}']),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(HERE),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["host", "port", "x"]), inner),
        max_leaves=5,
    ).map(lambda value: json.dumps(value).encode()),
)
NODES = st.builds(
    node,
    PAYLOADS,
    name=NAMES,
    holder=st.sampled_from(Holder),
    session=st.none() | st.sampled_from(["0x1a", "0x1b", "0x2c"]),
    has_children=st.booleans(),
)


@given(NODES)
def test_whatever_stands_there_only_ownerless_leaves_of_ours_go(seen: Node) -> None:
    """Hostile payloads and names included: nothing is raised, and nothing goes that is held, that has children, or that
    does not name this host."""
    verdict = judge(seen, HOSTS, SESSIONS)
    if verdict is not None and verdict.fate is Fate.GOES:
        assert seen.holder is Holder.NOBODY
        assert seen.session is None
        assert not seen.has_children
        assert names_host(seen.name, HOSTS) or HERE.encode() in seen.payload
        assert seen.payload != encode(OTHERS)


def outcome(result: str, *, registry: str = "", node: str = "/services/web/a") -> Outcome:
    """One place in the report."""
    return Outcome(registry=registry, node=node, result=result, why="because")


def test_the_report_is_a_line_for_each_place_and_a_sum() -> None:
    """What this host's nerve holds is only counted, and no name can break a line or move the cursor."""
    report = Report(
        hosts=HOSTS,
        looked_in=2,
        nodes=[
            outcome("removed"),
            outcome("held"),
            outcome("stays", registry="old", node="/services/web/b\n\x1b[2J"),
        ],
    )
    assert report_lines(report) == [
        "removed  /services/web/a: because",
        r"stays    registry old: /services/web/b\n\x1b[2J: because",
        "1 removed, 1 held by this host's nerve, in 2 directories (address 10.0.0.5, 2001:db8::5)",
    ]


def test_a_dry_run_says_would() -> None:
    """Nobody may take it for done."""
    report = Report(hosts=frozenset({HERE}), dry_run=True, nodes=[outcome("would go")], looked_in=1)
    assert report_lines(report) == [
        "would go  /services/web/a: because",
        "1 would be removed, 0 held by this host's nerve, in 1 directory (address 10.0.0.5)",
    ]
