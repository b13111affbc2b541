"""What is done about a renewed file when HAProxy answers this or that, or does not answer."""

from pathlib import Path

import pytest

from smartstack.logs import EventLog
from synapse.haproxy.certificates import Certificates
from synapse.haproxy.errors import HAProxyAway
from synapse.metrics import Metrics
from synapse.pem import authorities_text, fingerprints
from synapse.tls import Kind, TlsFile
from tests.support.tls import NAME, Authority

WORKER = 7
UNKNOWN = "Unknown command: 'show ssl ca-file', but maybe one of the following ones is a better match:\n"


class Scripted:
    """A HAProxy that has loaded what `loaded` says, and answers a new content with `answer`: it takes it for `done`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.loaded: dict[str, str] = {}
        self.answer = "done"

    def ask(self, text: str) -> str:
        self.asked.append(text.partition(" <<")[0])
        verb, _, _, path, *_ = text.split()
        if verb == "show":
            return self._shown(path)
        if verb == "abort":
            return "Transaction aborted!\n\n"
        if self.answer == "away":
            raise HAProxyAway("HAProxy does not answer")
        if self.answer != "done":
            return self.answer
        self.loaded[path] = text.partition("<<\n")[2].partition("\n\n")[0] + "\n"
        return f"Transaction created for {path}!\n\nCommitting {path}.\nSuccess!\n\n"

    def _shown(self, path: str) -> str:
        if path not in self.loaded:
            return "Can't display the CA file : Not found!\n\n"
        if self.loaded[path] == "":
            return UNKNOWN
        return "".join(
            "Serial: 01\nnotBefore: Jan  1 00:00:00 2026 GMT\nnotAfter: Jan  1 00:00:00 2126 GMT\n"
            f"SHA1 FingerPrint: {each}\n"
            for each in fingerprints(self.loaded[path])
        )


class Bench:
    """One file of authorities in use by a scripted HAProxy."""

    def __init__(self, directory: Path, copies: str = "certificates") -> None:
        self.authority = Authority(directory / "tls")
        self.file = TlsFile(kind=Kind.AUTHORITIES, path=self.authority.write("ca.pem", self.authority.pem))
        self.haproxy = Scripted()
        self.metrics = Metrics()
        self.copy = directory / copies / self.file.copy
        self.certificates = Certificates(str(directory / copies), self.haproxy.ask, self.metrics, EventLog("synapse"))
        assert self.certificates.admit(self.file) is None
        self.haproxy.loaded[str(self.copy)] = self.copy.read_text()

    def renew_file(self) -> str:
        """Write other authorities into the file; what HAProxy should have then."""
        self.authority.write("ca.pem", Authority(self.authority.directory).pem)
        self.certificates.touch()
        return authorities_text(Path(self.file.path).read_bytes())

    def look(self) -> dict[str, str]:
        """Look at the file; why HAProxy must be reloaded."""
        return dict(self.certificates.renew([self.file], WORKER, ""))

    @property
    def problem(self) -> str | None:
        """What /status says of the file."""
        return self.certificates.states[self.file].problem


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_haproxy_takes_is_kept(bench: Bench) -> None:
    """The running worker first, then the copy that the next one reads."""
    assert bench.look() == {}
    wanted = bench.renew_file()
    assert bench.look() == {}
    assert bench.haproxy.loaded[str(bench.copy)] == bench.copy.read_text() == wanted
    assert bench.problem is None
    assert bench.metrics.registry.get_sample_value("synapse_certificates_loaded_total", {"result": "done"}) == 1


def test_nothing_is_sent_while_nothing_changed(bench: Bench) -> None:
    """A look costs one question for each file, and none unless something may have changed."""
    bench.look()
    assert not bench.certificates.due(WORKER)
    assert bench.certificates.due(WORKER + 1)
    bench.certificates.touch()
    bench.look()
    assert bench.haproxy.asked == [f"show ssl ca-file {bench.copy}"] * 2


def test_what_haproxy_refuses_is_not_kept(bench: Bench) -> None:
    """Its transaction is ended, or no other file could be renewed; its words are told; it is tried at the next look."""
    before = bench.copy.read_text()
    wanted = bench.renew_file()
    bench.haproxy.answer = "transaction created for CA x!\n\nit is too blue\nCan't commit x!\n\n"
    assert bench.look() == {}
    assert bench.problem == "is refused by HAProxy: it is too blue; its last good content stays in use"
    assert bench.copy.read_text() == before
    assert bench.haproxy.asked[-1] == f"abort ssl ca-file {bench.copy}"
    bench.haproxy.answer = "done"
    bench.certificates.touch()
    bench.look()
    assert not bench.problem
    assert bench.copy.read_text() == wanted


@pytest.mark.parametrize("answer", ["", UNKNOWN])
def test_what_does_not_work_at_run_time_takes_a_reload(bench: Bench, answer: str) -> None:
    """HAProxy hung up, or does not know the command: the copy is for the next worker, which is asked for."""
    wanted = bench.renew_file()
    bench.haproxy.answer = answer
    assert bench.look() == {bench.file.path: "its new content cannot be loaded at run time"}
    assert bench.copy.read_text() == wanted
    bench.certificates.touch()
    assert bench.look() != {}, "until a worker has it"


def test_a_haproxy_that_cannot_tell_is_reloaded_once(bench: Bench) -> None:
    """Before 2.5 authorities can neither be shown nor changed at run time."""
    bench.haproxy.loaded[str(bench.copy)] = ""
    assert bench.look() == {}
    bench.renew_file()
    assert bench.look() == {bench.file.path: "this HAProxy takes no renewed file of this kind at run time"}
    bench.certificates.touch()
    assert bench.look() == {}


def test_a_state_directory_that_no_command_may_name(tmp_path: Path) -> None:
    """With a space in its path, say: everything works, by reloads."""
    bench = Bench(tmp_path, "with a space")
    bench.renew_file()
    assert list(bench.look()) == [bench.file.path]
    assert bench.haproxy.asked == []


def test_a_haproxy_that_does_not_answer_is_asked_again(bench: Bench) -> None:
    """Nothing is kept that no worker has, and it is still to be done."""
    before = bench.copy.read_text()
    bench.renew_file()
    bench.haproxy.answer = "away"
    with pytest.raises(HAProxyAway):
        bench.look()
    assert bench.copy.read_text() == before
    assert bench.certificates.due(WORKER)


def test_copies_that_haproxys_file_speaks_of_stay(bench: Bench) -> None:
    """Others go: there may be keys in them."""
    directory = bench.copy.parent
    (directory / "old.pem").write_text("")
    (directory / "older.pem").write_text("")
    bench.certificates.renew([bench.file], WORKER, f"crt {directory}/old.pem")
    assert {path.name for path in directory.iterdir()} == {"old.pem", bench.copy.name}


def test_a_file_is_told_of_that_was_never_good(tmp_path: Path) -> None:
    """With why; there is no copy of it then, and nothing of it is left behind."""
    bench = Bench(tmp_path)
    path = bench.authority.write("web.pem", bench.authority.issue(NAME)[1])
    why = bench.certificates.admit(TlsFile(kind=Kind.CERTIFICATE, path=path))
    assert why == f"{path} holds no certificate in PEM form"
    assert [each.name for each in bench.copy.parent.iterdir()] == [bench.copy.name]
