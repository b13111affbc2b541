"""Tokens: who may read the file may ask, and a file that is not as it was written opens nothing."""

import grp
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smartstack.tokens import HEARTBEAT_TOKEN, Token, refusal

OWN_GROUP = grp.getgrgid(os.getegid()).gr_name


def written(directory: Path, **options: str) -> Token:
    token = Token(directory, **options)
    token.write()
    return token


def secret(token: Token) -> str:
    return token.path.read_text().strip()


def refused(*tokens: Token, authorization: str | None) -> tuple[int, str] | None:
    response = refusal(tokens, authorization)
    return None if response is None else (response.status, response.body.decode())


@pytest.fixture
def umask() -> Iterator[None]:
    """The strictest umask that anybody sets."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_token_is_for_the_daemons_user_alone(tmp_path: Path) -> None:
    """The file has mode 0600; the directories that were missing can be looked into by all, whatever the umask."""
    token = written(tmp_path / "run" / "nerve")
    assert token.path == tmp_path / "run" / "nerve" / "token"
    assert stat.S_IMODE(token.path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(path.stat().st_mode) for path in (token.path.parent, token.path.parents[1])] == [0o755] * 2
    assert os.listdir(token.path.parent) == ["token"]
    assert (token.was_written, token.problem) == (True, None)


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """What ops made for the daemon is left as they made it."""
    (tmp_path / "run").mkdir(mode=0o711)
    assert written(tmp_path / "run").problem is None
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o711


def test_each_start_has_a_token_of_its_own(tmp_path: Path) -> None:
    """A token of before opens nothing, and cannot be guessed from the one of today."""
    old = written(tmp_path)
    word = secret(old)
    new = written(tmp_path)
    assert len(word) >= 43
    assert secret(new) != word
    assert (new.opens(word), new.opens(secret(new))) == (False, True)
    assert old.problem == f"{old.path} was replaced: restart the daemon, which writes a new one"


def test_a_group_may_read_its_token(tmp_path: Path) -> None:
    """With a group the file is the group's, with mode 0640."""
    token = written(tmp_path, name=HEARTBEAT_TOKEN, group=OWN_GROUP)
    found = token.path.stat()
    assert (token.path.name, stat.S_IMODE(found.st_mode), found.st_gid) == ("heartbeat-token", 0o640, os.getegid())
    assert token.problem is None


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.rename(path)


def link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def move_the_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "readable by the group": (
        lambda path: path.chmod(0o640),
        "is open to others (mode 0640): chmod 600 it, and restart the daemon if others may have read it",
    ),
    "readable by all": (
        lambda path: path.chmod(0o604),
        "is open to others (mode 0604): chmod 600 it, and restart the daemon if others may have read it",
    ),
    "writable by the group": (
        lambda path: path.chmod(0o620),
        "is open to others (mode 0620): chmod 600 it, and restart the daemon if others may have read it",
    ),
    "set user id": (
        lambda path: path.chmod(0o4600),
        "is open to others (mode 4600): chmod 600 it, and restart the daemon if others may have read it",
    ),
    "removed": (lambda path: path.unlink(), "was removed: restart the daemon, which writes a new one"),
    "its directory moved away": (move_the_directory, "was removed: restart the daemon, which writes a new one"),
    "replaced by a copy of itself": (replace, "was replaced: restart the daemon, which writes a new one"),
    "replaced by a link to itself": (link, "was replaced: restart the daemon, which writes a new one"),
    "replaced by a pipe": (pipe, "was replaced: restart the daemon, which writes a new one"),
    "replaced by a directory": (directory, "was replaced: restart the daemon, which writes a new one"),
    "another word written into it": (
        lambda path: path.write_text("mine\n"),
        "was changed: restart the daemon, which writes a new one",
    ),
    "emptied": (lambda path: path.write_text(""), "was changed: restart the daemon, which writes a new one"),
}


@pytest.mark.parametrize(("change", "sentence"), CHANGES.values(), ids=CHANGES)
def test_a_file_that_is_not_as_it_was_written_opens_nothing(
    change: Callable[[Path], object], sentence: str, tmp_path: Path
) -> None:
    """Each use looks at the file again; 403 says what to do, and never the token."""
    token = written(tmp_path / "run")
    word = secret(token)
    assert refused(token, authorization=f"Bearer {word}") is None
    change(token.path)
    assert token.problem == f"{token.path} {sentence}"
    for authorization in (None, "Bearer wrong", f"Bearer {word}"):
        assert refused(token, authorization=authorization) == (403, f"refused: {token.path} {sentence}\n")
    assert word not in sentence


def test_a_file_of_another_user_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that somebody else owns could be read and made readable by that user."""
    token = written(tmp_path)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert token.problem == (
        f"{token.path} belongs to another user (uid {owner}): restart the daemon, which writes a new one"
    )


def test_a_file_of_another_group_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was given to one group is not for the members of another."""
    token = written(tmp_path, group=OWN_GROUP)
    fields = list(token.path.lstat())
    fields[stat.ST_GID] += 1
    monkeypatch.setattr(os, "lstat", lambda path: os.stat_result(fields))
    assert token.problem == (
        f"{token.path} belongs to another group (gid {os.getegid() + 1}) than {OWN_GROUP}: restart the daemon, which "
        "writes a new one"
    )


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_that_was_closed_again_opens_again(mode: int, tmp_path: Path) -> None:
    """chmod 600 is enough where nobody read it; less than was given is no problem."""
    token = written(tmp_path)
    token.path.chmod(0o644)
    assert token.problem is not None
    token.path.chmod(mode)
    assert token.problem is None


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        pytest.param(0o640, None, id="as it was written"),
        pytest.param(0o600, None, id="less"),
        pytest.param(
            0o644,
            "is open to others (mode 0644): chmod 640 it, and restart the daemon if others may have read it",
            id="more",
        ),
    ],
)
def test_the_file_of_a_group_is_for_that_group_only(mode: int, sentence: str | None, tmp_path: Path) -> None:
    """What the group may do is no problem, what others may is."""
    token = written(tmp_path, group=OWN_GROUP)
    token.path.chmod(mode)
    assert token.problem == (sentence and f"{token.path} {sentence}")


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        pytest.param(None, 401, id="nothing"),
        pytest.param("", 401, id="empty"),
        pytest.param("Bearer", 401, id="no token"),
        pytest.param("Bearer  ", 401, id="a blank token"),
        pytest.param("{}", 401, id="no scheme"),
        pytest.param("Basic {}", 401, id="another scheme"),
        pytest.param("Bearer wrong", 403, id="wrong"),
        pytest.param("Bearer {}x", 403, id="longer"),
        pytest.param("Bearer {}, Bearer {}", 403, id="two headers"),
        pytest.param("Bearer \xe4\xff\x80", 403, id="no ASCII"),
        pytest.param("Bearer \u0161", 403, id="no Latin-1"),
        pytest.param("Bearer " + "x" * 10_000, 403, id="long"),
        pytest.param("Bearer {}", None, id="right"),
        pytest.param("bearer {}", None, id="right, in small letters"),
        pytest.param("Bearer   {} ", None, id="right, with blanks"),
    ],
)
def test_what_was_sent_is_compared(authorization: str | None, status: int | None, tmp_path: Path) -> None:
    """401 asks for a token, 403 refuses a wrong one; both name the file to read it from, and never the token."""
    token = written(tmp_path)
    word = secret(token)
    answer = refused(token, authorization=authorization and authorization.replace("{}", word))
    assert (answer and answer[0]) == status
    assert answer is None or (str(token.path) in answer[1] and word not in answer[1])


def test_both_refusals_say_what_to_do(tmp_path: Path) -> None:
    """One sentence each."""
    token = written(tmp_path)
    response = refusal([token], None)
    assert response is not None
    assert response.body.decode() == (
        f"refused: this needs a token: send the header `Authorization: Bearer TOKEN` with what {token.path} holds\n"
    )
    assert response.headers == (("WWW-Authenticate", "Bearer"),)
    assert refused(token, authorization="Bearer x") == (
        403,
        f"refused: this is not the token: read it from {token.path}\n",
    )


def test_each_of_several_tokens_opens(tmp_path: Path) -> None:
    """Where two tokens open, each does, and one whose file is open to others does not shut the other out."""
    main, heartbeat = written(tmp_path), written(tmp_path, name=HEARTBEAT_TOKEN, group=OWN_GROUP)
    words = [f"Bearer {secret(main)}", f"Bearer {secret(heartbeat)}"]
    assert [refused(main, heartbeat, authorization=word) for word in words] == [None, None]
    assert refused(main, authorization=words[1]) is not None
    wrong = refused(main, heartbeat, authorization="Bearer x")
    assert wrong == (403, f"refused: this is not the token: read it from {main.path} or {heartbeat.path}\n")
    main.path.chmod(0o644)
    assert refused(main, heartbeat, authorization=words[1]) is None
    shut = refused(main, heartbeat, authorization=words[0])
    assert shut == (403, f"refused: {main.problem}\n")


def test_an_unknown_group_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    """The daemon goes on; that token opens nothing, and the other one still does."""
    main, heartbeat = written(tmp_path), written(tmp_path, name=HEARTBEAT_TOKEN, group="no-such-group")
    assert heartbeat.problem == (
        "there is no token: there is no group 'no-such-group' on this machine: make it, or set heartbeat_group to "
        "another one or to null; then restart the daemon"
    )
    assert not heartbeat.opens("")
    assert not heartbeat.path.exists()
    assert refused(main, heartbeat, authorization=f"Bearer {secret(main)}") is None


def test_a_group_that_cannot_be_given_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not give the file to the group keeps it for himself, and says so."""

    def refuse(descriptor: int, user: int, group: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    token = written(tmp_path, group=OWN_GROUP)
    assert token.problem == (
        f"there is no token: cannot give {token.path} to the group {OWN_GROUP}: operation not permitted; run the "
        "daemon as root or as a member of that group; then restart the daemon"
    )
    assert stat.S_IMODE(token.path.stat().st_mode) == 0o600
    assert not token.opens(secret(token))


def test_a_token_that_was_not_written_opens_nothing(tmp_path: Path) -> None:
    """Before the start there is no word at all, and the empty one is none."""
    token = Token(tmp_path)
    assert not token.opens("")
    assert refused(token, authorization="Bearer x") == (503, "refused: it was not written yet\n")


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        pytest.param("/proc/smartstack", "cannot make the directory /proc/smartstack: ", id="no such place"),
        pytest.param("{}/file", "cannot write {}/file/token: not a directory; ", id="a file instead"),
        pytest.param("{}/file/run", "cannot make the directory {}/file/run: not a directory; ", id="below a file"),
    ],
)
def test_where_nothing_can_be_written_there_is_no_token(place: str, sentence: str, tmp_path: Path) -> None:
    """The daemon starts all the same: 503 says why there is no token, and what to do."""
    (tmp_path / "file").touch()
    token = written(Path(place.format(tmp_path)))
    problem = token.problem or ""
    assert problem.startswith(f"there is no token: {sentence.format(tmp_path)}")
    assert problem.endswith("; then restart the daemon")
    assert refused(token, authorization="Bearer x") == (503, f"refused: {problem}\n")


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        pytest.param(
            "os.geteuid() or os.setuid(65534)",
            "there is no token: cannot write {}/token: permission denied; give this user the permission to write "
            "there, or choose another directory; then restart the daemon",
            id="a directory that may only be read",
        ),
        pytest.param(
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))",
            "there is no token: cannot write {}/token: file too large; then restart the daemon",
            id="a disk that takes no more",
        ),
    ],
)
def test_a_real_refusal_of_the_kernel_is_a_problem(before: str, sentence: str) -> None:
    """A process of its own that may not write: the problem is said, nothing raises, nothing is left behind."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o555 if "setuid" in before else 0o755)
        program = (
            "import os, resource, signal\n"
            "from smartstack.tokens import Token\n"
            f"token = Token({place!r})\n"
            f"{before}\n"
            "token.write()\n"
            "print(token.problem)"
        )
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (ended.stdout, ended.stderr) == (f"{sentence.format(place)}\n", "")
        assert os.listdir(place) == []
