"""HAProxy's answers, as values. Pure: text in, facts out; text that does not fit is a value too, never a crash."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from synapse.proxy import Admin, Load, Slot

_MAINT_BITS = 0x23
_DRAIN_BITS = 0x18
"""srv_admin_state in `show servers state`: forced, inherited or resolver maintenance; forced or inherited drain.
Bit 0x04 only says that the file had `disabled`; it stays when the server is enabled."""

_SET_ADDRESS = re.compile(
    r"(IP changed from '[^']*' to '[^']*'|no need to change the addr)"
    r"(, (port changed from '[^']*' to '[^']*'|no need to change the port))?"
    r"( by '[^']*')?|nothing changed"
)
_NUMBER = re.compile(r"[0-9]{1,18}")
_COLUMNS = ("be_name", "srv_name", "srv_addr", "srv_op_state", "srv_admin_state", "srv_uweight", "srv_port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """From `show info`: which worker answers, and the structure that it was started with. `dropped_logs` is how many
    lines of the feed it could not send since it was started."""

    pid: int
    description: str
    version: str
    stopping: bool
    dropped_logs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """From `show proc` on the master's socket. `failed_reloads` counts those since the last good one."""

    master: int
    workers: tuple[int, ...]
    old_workers: tuple[int, ...]
    failed_reloads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """The master's answer to `reload`. `success` None: before 2.7 it answers before it knows. `words` is what HAProxy
    printed, where it was built to keep that."""

    success: bool | None
    words: str


def parse_info(text: str) -> Info | None:
    """The answer to `show info`, None when it is not one."""
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    if not _NUMBER.fullmatch(fields.get("Pid", "")):
        return None
    return Info(
        pid=int(fields["Pid"]),
        description=fields.get("description", ""),
        version=fields.get("Version", ""),
        stopping=fields.get("Stopping", "0") != "0",
        dropped_logs=_number(fields.get("DroppedLogs")),
    )


def parse_servers(text: str) -> Mapping[str, tuple[Slot, ...]]:
    """The answer to `show servers state [backend]`: each backend's slots in the file's order.

    A line that does not fit is left out; the plan then finds a slot missing, which is a reason to reload.
    """
    header: list[str] = []
    backends: dict[str, list[Slot]] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            header = line[2:].split()
            continue
        fields = dict(zip(header, line.split(), strict=False))
        if all(column in fields for column in _COLUMNS) and _are_numbers(fields):
            backends.setdefault(fields["be_name"], []).append(_slot(fields))
    return {name: tuple(slots) for name, slots in backends.items()}


def parse_backend_id(text: str) -> str | None:
    """The backend's number in the answer to `show servers state <backend>`, None when it has none."""
    lines = [line.split() for line in text.splitlines()[2:]]
    return next((fields[0] for fields in lines if fields and _NUMBER.fullmatch(fields[0])), None)


def parse_load(text: str) -> tuple[int, int]:
    """The answer to `show stat <backend> 6 -1`: requests under way, and those that wait for a free place, in the
    backend's queue or a server's. What does not fit counts nothing."""
    rows = _stat_rows(text)
    queued = sum(_number(row.get("qcur")) for row in rows)
    sessions = sum(_number(row.get("scur")) for row in rows if row.get("svname") == "BACKEND")
    return max(0, sessions - queued), queued


def parse_server_loads(text: str) -> Mapping[str, Load]:
    """The answer to `show stat <backend> 4 -1`, by slot. A request that a server gave no good answer to counts for it
    as a retry, as a redispatch, or as both. What does not fit counts nothing."""
    return {
        row["svname"]: Load(
            current=_number(row.get("scur")), retried=max(_number(row.get("wretr")), _number(row.get("wredis")))
        )
        for row in _stat_rows(text)
        if "svname" in row
    }


def _stat_rows(text: str) -> list[dict[str, str]]:
    # What may be quoted, and hold commas, stands far behind the columns that are read.
    header, *lines = [line.split(",") for line in text.splitlines() if line] or [[]]
    columns = [name.removeprefix("# ") for name in header]
    return [dict(zip(columns, fields, strict=False)) for fields in lines]


def _number(text: str | None) -> int:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else 0


def parse_processes(text: str) -> Processes | None:
    """The answer to `show proc`, None when it is not one."""
    master, failed = 0, 0
    current: list[int] = []
    old: list[int] = []
    section = current
    for line in text.splitlines():
        if line.startswith("# old workers"):
            section = old
        match = re.match(r"([0-9]{1,18})\s+(master|worker)\s(.*)", line)
        if match is None:
            continue
        if match[2] == "worker":
            section.append(int(match[1]))
            continue
        master = int(match[1])
        failure = re.search(r"\[failed: ([0-9]{1,18})\]", match[3])
        failed = int(failure[1]) if failure else 0
    if master == 0:
        return None
    return Processes(master=master, workers=tuple(current), old_workers=tuple(old), failed_reloads=failed)


def parse_reload(text: str) -> Reloaded:
    """The answer to `reload`: nothing before 2.7, `Success=1` or `Success=0` since, and then the messages."""
    match = re.match(r"Success=([01])\n(?:--\n)?", text)
    if match is None:
        return Reloaded(success=None, words=text.strip())
    return Reloaded(success=match[1] == "1", words=alerts(text[match.end() :]))


def split_replies(text: str) -> list[str]:
    """The replies to the commands of one `;` line: each is its text and an empty line, success is the empty line
    alone. No answer is no reply."""
    replies: list[str] = []
    words: list[str] = []
    for line in text.removesuffix("\n").split("\n") if text else ():
        if line:
            words.append(line)
        else:
            replies.append("\n".join(words))
            words = []
    return [*replies, "\n".join(words)] if words else replies


def succeeded(reply: str) -> bool:
    """Whether a reply to a `set server` command is one of those known to mean success."""
    return reply == "" or _SET_ADDRESS.fullmatch(reply) is not None


def alerts(text: str) -> str:
    """From HAProxy's messages those that say what is wrong, without the noise around them."""
    kept = [re.sub(r"^\[ALERT\]\s+\(\d+\) : (config : )?", "", line) for line in text.splitlines() if "[ALERT]" in line]
    told = [line for line in kept if not re.match(r"Fatal errors found|Error\(s\) found", line)]
    return "\n".join(told or kept or text.strip().splitlines()[-3:])


def _are_numbers(fields: Mapping[str, str]) -> bool:
    return all(_NUMBER.fullmatch(fields[key]) for key in ("srv_op_state", "srv_admin_state", "srv_uweight", "srv_port"))


def _slot(fields: Mapping[str, str]) -> Slot:
    admin = int(fields["srv_admin_state"])
    return Slot(
        name=fields["srv_name"],
        host=_host(fields["srv_addr"]),
        port=int(fields["srv_port"]),
        weight=int(fields["srv_uweight"]),
        admin=Admin.MAINT if admin & _MAINT_BITS else Admin.DRAIN if admin & _DRAIN_BITS else Admin.READY,
        up=fields["srv_op_state"] != "0",
    )


def _host(shown: str) -> str:
    """The address in the one form that instances have: HAProxy writes `::ffff:10.0.0.5`, Python `::ffff:a00:5`."""
    try:
        return str(ipaddress.IPv6Address(shown)) if ":" in shown else shown
    except ValueError:
        return shown
