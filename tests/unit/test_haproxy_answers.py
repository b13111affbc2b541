"""HAProxy's answers, taken from a real HAProxy 2.6.12, as values; and what is no answer of HAProxy's."""

from collections.abc import Mapping

import pytest

from smartstack.instance import Instance, decode
from synapse.haproxy.answers import (
    Info,
    Processes,
    Reloaded,
    alerts,
    parse_backend_id,
    parse_info,
    parse_load,
    parse_processes,
    parse_reload,
    parse_servers,
    split_replies,
    succeeded,
)
from synapse.proxy import Admin, Slot

INFO = """\
Name: HAProxy
Version: 2.6.12-1+deb12u4
Release_date: 2026/10/17
Nbthread: 1
Pid: 8362
Uptime: 0d 0h00m01s
node: vm
description: gen-3f9c1a7e
Stopping: 0
Jobs: 6
Unstoppable Jobs: 1
Build info: 2.6.12-1+deb12u4
DroppedLogs: 7
Tainted: 0

"""


def test_info_says_who_serves() -> None:
    """The worker's process id, the structure it was started with, its version, and whether it is on its way out."""
    assert parse_info(INFO) == Info(
        pid=8362, description="gen-3f9c1a7e", version="2.6.12-1+deb12u4", stopping=False, dropped_logs=7
    )


def test_info_of_a_worker_that_stops() -> None:
    """An old worker that finishes its connections still answers, and says so."""
    info = parse_info(INFO.replace("Stopping: 0", "Stopping: 1"))
    assert info is not None
    assert info.stopping


def test_info_without_a_description() -> None:
    """A HAProxy that somebody else configured has no description: that is an empty one, not no answer."""
    info = parse_info(INFO.replace("description: gen-3f9c1a7e\n", ""))
    assert info is not None
    assert info.description == ""


@pytest.mark.parametrize(
    "text", ["", "\n", "Permission denied\n\n", "Pid: \n", "Pid: -1\n", "Pid: x\n", "Pid: ²\n", "Pid:8362\n", "\0: \0"]
)
def test_what_is_no_info(text: str) -> None:
    """Without a process id it is not an answer to `show info`."""
    assert parse_info(text) is None


HEADER = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port\n"
)


def test_servers_by_backend_in_the_order_of_the_file() -> None:
    """`show servers state` of two backends: addresses, ports, weights; a backend may be called 1."""
    text = (
        f"{HEADER}"
        "3 web 1 s1 127.0.0.2 2 0 50 50 8 2 0 6 0 0 0 0 - 8080 - 0 0 - - 0\n"
        "3 web 2 s2 127.0.0.1 0 5 100 100 1 1 0 0 14 0 0 0 - 9 - 0 0 - - 0\n"
        "5 1 1 s1 127.0.0.1 0 5 100 100 1 1 0 0 8 0 0 0 - 9 - 0 0 - - 0\n"
        "\n"
    )
    spare = Slot(name="s2", host="127.0.0.1", port=9, weight=100, admin=Admin.MAINT, up=False)
    assert parse_servers(text) == {
        "web": (Slot(name="s1", host="127.0.0.2", port=8080, weight=50, admin=Admin.READY, up=True), spare),
        "1": (Slot(name="s1", host="127.0.0.1", port=9, weight=100, admin=Admin.MAINT, up=False),),
    }


STATES: Mapping[str, tuple[str, Admin, bool, bool]] = {
    "ready": ("127.0.0.2 2 0 100", Admin.READY, True, True),
    "disabled in the file, enabled at run time": ("127.0.0.4 2 4 5", Admin.READY, True, True),
    "disabled in the file": ("127.0.0.1 0 5 100", Admin.MAINT, False, False),
    "set to maint": ("127.0.0.3 0 1 3", Admin.MAINT, False, False),
    "set to drain": ("127.0.0.2 0 8 100", Admin.DRAIN, False, False),
    "set to drain and to maint": ("127.0.0.2 0 9 100", Admin.MAINT, False, False),
    "in maintenance by the one that it tracks": ("127.0.0.2 0 2 100", Admin.MAINT, False, False),
    "drained by the one that it tracks": ("127.0.0.2 2 16 100", Admin.DRAIN, True, False),
    "in maintenance by its resolver": ("127.0.0.2 0 32 100", Admin.MAINT, False, False),
    "weight 0": ("127.0.0.2 2 0 0", Admin.READY, True, False),
    "down by its check": ("127.0.0.2 0 0 100", Admin.READY, False, True),
    "starting": ("127.0.0.2 1 0 100", Admin.READY, True, True),
}


@pytest.mark.parametrize(("columns", "admin", "up", "serves"), STATES.values(), ids=STATES)
def test_the_state_of_a_slot(columns: str, admin: Admin, up: bool, serves: bool) -> None:
    """Maintenance goes before drain, and HAProxy's own check is apart from both."""
    text = f"{HEADER}3 web 1 s1 {columns} 100 1 8 2 0 6 0 0 0 - 8080 - 0 0 - - 0\n\n"
    [slot] = parse_servers(text)["web"]
    assert (slot.admin, slot.up, slot.serves) == (admin, up, serves)


ADDRESSES = {
    "IPv4": ("10.0.0.5", "10.0.0.5"),
    "IPv6": ("2001:db8::1", "2001:db8::1"),
    "IPv4 in IPv6, which HAProxy writes in another way": ("::ffff:127.0.0.3", "::ffff:7f00:3"),
    "IPv4 after zeros, likewise": ("::1.2.3.4", "::102:304"),
    "no address": ("-", "-"),
    "a unix socket": ("/run/web.sock", "/run/web.sock"),
}


@pytest.mark.parametrize(("shown", "host"), ADDRESSES.values(), ids=ADDRESSES)
def test_the_address_of_a_slot(shown: str, host: str) -> None:
    """Addresses are in the form that instances have, so that the two can be compared."""
    [slot] = parse_servers(f"{HEADER}3 web 1 s1 {shown} 2 0 1 1 8 2 0 6 0 0 0 0 - 80 - 0 0 - - 0\n")["web"]
    assert slot.host == canonical(host)


def canonical(host: str) -> str:
    """As `decode` has it, whose form of such addresses depends on the version of Python."""
    instance = decode(f'{{"host":"{host}","port":80}}'.encode())
    return instance.host if isinstance(instance, Instance) else host


ODD_LINES: Mapping[str, str] = {
    "a line that ends early": "3 web 1 s2 127.0.0.2 2 0\n",
    "a weight that is no number": "3 web 1 s2 127.0.0.2 2 0 x 1 8 2 0 6 0 0 0 0 - 80 - 0 0 - - 0\n",
    "a state that is negative": "3 web 1 s2 127.0.0.2 2 -1 1 1 8 2 0 6 0 0 0 0 - 80 - 0 0 - - 0\n",
    "a digit that is no number": "3 web 1 s2 127.0.0.2 2 ² 1 1 8 2 0 6 0 0 0 0 - 80 - 0 0 - - 0\n",
    "words": "Permission denied\n",
}


@pytest.mark.parametrize("line", ODD_LINES.values(), ids=ODD_LINES)
def test_a_line_that_does_not_fit_is_left_out(line: str) -> None:
    """The others count; the slot that is missing is then a reason to reload."""
    good = "3 web 1 s1 127.0.0.2 2 0 1 1 8 2 0 6 0 0 0 0 - 80 - 0 0 - - 0\n"
    assert [slot.name for slot in parse_servers(HEADER + line + good)["web"]] == ["s1"]


def test_columns_are_found_by_their_names() -> None:
    """A newer HAProxy may add columns or move them; without their names there is nothing to be read."""
    moved = "# srv_name be_name new srv_port srv_addr srv_uweight srv_admin_state srv_op_state\ns1 web ? 80 ::1 7 0 2\n"
    assert parse_servers(moved) == {"web": (Slot(name="s1", host="::1", port=80, weight=7, admin=Admin.READY),)}
    assert parse_servers("3 web 1 s1 127.0.0.2 2 0 1 1 8 2 0 6 0 0 0 0 - 80 - 0 0 - - 0\n") == {}


@pytest.mark.parametrize("text", ["", "\n", "Can't find backend.\n\n", HEADER])
def test_no_servers(text: str) -> None:
    """A backend that does not exist, or an answer that is none, has no slots."""
    assert parse_servers(text) == {}


PROC_HEAD = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n"


def test_processes() -> None:
    """The master and its worker, after a start."""
    text = (
        f"{PROC_HEAD}8359            master          0 [failed: 0]   0d00h00m01s     2.6.12-1+deb12u4\n"
        "# workers\n8362            worker          0               0d00h00m01s     2.6.12-1+deb12u4\n# programs\n\n"
    )
    assert parse_processes(text) == Processes(master=8359, workers=(8362,), old_workers=(), failed_reloads=0)


def test_processes_after_a_reload_that_failed() -> None:
    """`[failed: N]` counts the reloads that failed since the last good one; the worker is the one from before."""
    text = (
        f"{PROC_HEAD}8359            master          2 [failed: 1]   0d00h00m02s     2.6.12-1+deb12u4\n"
        "# workers\n8396            worker          1               0d00h00m01s     2.6.12-1+deb12u4\n# programs\n\n"
    )
    assert parse_processes(text) == Processes(master=8359, workers=(8396,), old_workers=(), failed_reloads=1)


def test_processes_with_old_workers() -> None:
    """Old workers that still have connections are told apart: their sockets are ours, they serve nobody new."""
    text = (
        f"{PROC_HEAD}1               master          2 [failed: 0]   0d00h00m02s     2.6.12-1+deb12u4\n"
        "# workers\n30              worker          0               0d00h00m01s     2.6.12-1+deb12u4\n"
        "# old workers\n20              worker          1               0d00h00m01s     2.6.12-1+deb12u4\n"
        "10              worker          2               0d00h00m01s     2.6.12-1+deb12u4\n# programs\n\n"
    )
    assert parse_processes(text) == Processes(master=1, workers=(30,), old_workers=(20, 10), failed_reloads=0)


@pytest.mark.parametrize("text", ["", "\n", "Unknown command.\n\n", "12 worker 0 0 x\n", "x master 0 0 x\n"])
def test_what_is_no_list_of_processes(text: str) -> None:
    """Without a master it is not an answer to `show proc`."""
    assert parse_processes(text) is None


REPLIES: Mapping[str, tuple[str, list[str]]] = {
    "one success": ("\n", [""]),
    "three successes": ("\n\n\n", ["", "", ""]),
    "an address": (
        "IP changed from '10.0.0.1' to '10.0.0.2' by 'stats socket command'\n\n",
        ["IP changed from '10.0.0.1' to '10.0.0.2' by 'stats socket command'"],
    ),
    "an address, two successes, no server, a weight, no backend": (
        "IP changed from '::ffff:127.0.0.5' to '127.0.0.4', no need to change the port by 'stats socket command'\n\n"
        "\n\nNo such server.\n\nAbsolute weight can only be between 0 and 256 inclusive.\n\nNo such backend.\n\n",
        [
            "IP changed from '::ffff:127.0.0.5' to '127.0.0.4', no need to change the port by 'stats socket command'",
            "",
            "",
            "No such server.",
            "Absolute weight can only be between 0 and 256 inclusive.",
            "No such backend.",
        ],
    ),
    "a reply of several lines": ("Unknown command:\n  help\n  quit\n\n\n", ["Unknown command:\n  help\n  quit", ""]),
    "a reply that was cut": ("\nNo such ser", ["", "No such ser"]),
    "nothing": ("", []),
}


@pytest.mark.parametrize(("text", "replies"), REPLIES.values(), ids=REPLIES)
def test_the_replies_of_one_line_of_commands(text: str, replies: list[str]) -> None:
    """Each reply is its text and an empty line; success is an empty line and nothing else."""
    assert split_replies(text) == replies


GOOD = [
    "",
    "IP changed from '127.0.0.1' to '127.0.0.4', port changed from '9' to '9090' by 'stats socket command'",
    "no need to change the addr, no need to change the port by 'stats socket command'",
    "no need to change the addr, port changed from '9090' to '9091' by 'stats socket command'",
    "IP changed from '127.0.0.4' to '::ffff:127.0.0.5', no need to change the port by 'stats socket command'",
    "IP changed from '10.0.0.1' to '10.0.0.2' by 'stats socket command'",
    "nothing changed",
]
BAD = [
    "No such server.",
    "No such backend.",
    "Can't find backend.",
    "Invalid addr 'x' by 'stats socket command'",
    "Absolute weight can only be between 0 and 256 inclusive.",
    "'set server <srv> state' expects 'ready', 'drain' and 'maint'.",
    "Permission denied",
    "Unknown command, but maybe one of the following ones is a better match:\n  show fd [num]",
    "IP changed from '10.0.0.1' to '10.0.0.2' by 'stats socket command', but not really",
    "IP changed from '10.0.0.1' to '10.0.0.2'\nNo such server.",
    " ",
]


@pytest.mark.parametrize(("reply", "good"), [*((reply, True) for reply in GOOD), *((reply, False) for reply in BAD)])
def test_success_is_one_of_what_is_known(reply: str, good: bool) -> None:
    """An empty reply, or what HAProxy says of an address that it took; anything else, known or not, is no success."""
    assert succeeded(reply) is good


def test_alerts_are_told_without_the_noise_around_them() -> None:
    """Of what HAProxy prints about a file, the lines that say where and what; not that errors were found."""
    text = (
        "[NOTICE]   (8359) : haproxy version is 2.6.12-1+deb12u4\n"
        "[NOTICE]   (8359) : path to executable is /usr/sbin/haproxy\n"
        "[ALERT]    (8359) : config : parsing [a.cfg:16] : unknown keyword 'blance' in 'backend' section; "
        "did you mean 'balance' maybe ?\n"
        "[ALERT]    (8359) : config : Error(s) found in configuration file : a.cfg\n"
        "[ALERT]    (8359) : config : Fatal errors found in configuration.\n"
        "[WARNING]  (8359) : Loading failure!\n"
    )
    assert alerts(text) == (
        "parsing [a.cfg:16] : unknown keyword 'blance' in 'backend' section; did you mean 'balance' maybe ?"
    )


def test_without_an_alert_the_last_words_are_told() -> None:
    """A program that ends otherwise (killed, not HAProxy) is quoted with its last three lines."""
    assert alerts("one\ntwo\nthree\nfour\n") == "two\nthree\nfour"
    assert alerts("") == ""


def test_only_noise_is_better_than_nothing() -> None:
    """When every alert is of the kind that is left out, they are told all the same."""
    text = "[ALERT]    (1) : config : Fatal errors found in configuration.\n"
    assert alerts(text) == "Fatal errors found in configuration."


LOAD = """\
# pxname,svname,qcur,qmax,scur,smax,slim,stot,
web,s1,1,1,2,2,2,8,
web,s2,0,0,2,2,2,8,
web,BACKEND,3,3,8,8,200,16,

"""


def test_how_much_a_backend_has_to_do() -> None:
    """Requests under way, and those that wait in the backend's queue or in a server's; no answer is no load."""
    assert parse_load(LOAD) == (4, 4)
    assert parse_load("") == parse_load("No such proxy.\n\n") == (0, 0)
    assert parse_load("# pxname,svname,qcur,scur,\nweb,BACKEND,x,-5,\n") == (0, 0)


def test_the_number_of_a_backend() -> None:
    """By which it is asked for: a frontend of the same name would answer in its place."""
    answer = "1\n# be_id be_name srv_id\n7 web 1 s1 10.0.0.1\n7 web 2 s2 10.0.0.2\n\n"
    assert parse_backend_id(answer) == "7"
    assert parse_backend_id("Can't find backend.\n\n") is None
    assert parse_backend_id("") is None


RELOADED = {
    "before 2.7 it answers before it knows": ("\n", None, ""),
    "good, and silent": ("Success=1\n", True, ""),
    "good": ("Success=1\n--\n[NOTICE]   (1) : New worker (2) forked\n", True, "[NOTICE]   (1) : New worker (2) forked"),
    "bad": (
        "Success=0\n--\n[NOTICE]   (1) : haproxy version is 3.0.11\n"
        "[ALERT]    (1) : config : parsing [/x.cfg:3] : unknown keyword 'blance'.\n"
        "[ALERT]    (1) : config : Fatal errors found in configuration.\n",
        False,
        "parsing [/x.cfg:3] : unknown keyword 'blance'.",
    ),
    "bad, and it was built not to say why": ("Success=0\n", False, ""),
    "no answer of a master": ("Unknown command: 'reload'", None, "Unknown command: 'reload'"),
}


@pytest.mark.parametrize(("text", "success", "words"), RELOADED.values(), ids=RELOADED)
def test_the_masters_answer_to_a_reload(text: str, success: bool | None, words: str) -> None:
    """Whether it took, where the master tells, and what HAProxy has against it."""
    assert parse_reload(text) == Reloaded(success=success, words=words)
