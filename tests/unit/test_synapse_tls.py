"""TLS of a proxy: the words of HAProxy's lines, what is read of certificate files, and what is sent to HAProxy."""

import re
import ssl

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from smartstack.errors import ConfigError
from smartstack.forms import TcpAddress
from smartstack.traffic import Bind, InstanceTls, ListenTls, Proxy
from smartstack.validation import validate
from smartstack.yaml_file import load as load_yaml
from synapse.haproxy.certificate_commands import COMMAND_LIMIT, Loading, Shown, load, parse_loaded, parse_shown, show
from synapse.pem import Block, UnusablePem, authorities_text, blocks, certificate_text, fingerprints
from synapse.tls import Kind, TlsFile, bind_words, in_place, overdue, server_words, tls_files

AUTHORITY = trustme.CA()
LEAF = AUTHORITY.issue_cert("web.example")
KEY = LEAF.private_key_pem.bytes()
CERTIFICATE = LEAF.cert_chain_pems[0].bytes()
CA = AUTHORITY.cert_pem.bytes()
OTHER_CA = trustme.CA().cert_pem.bytes()
DAY = 86_400.0

MUTUAL = InstanceTls(ca="/ca.pem", certificate="/own.pem", server_name="web.example")


@pytest.mark.parametrize(
    ("tls", "mode", "words"),
    [
        pytest.param(None, "http", "", id="no tls"),
        pytest.param(
            MUTUAL,
            "http",
            "ssl ssl-min-ver TLSv1.2 verify required ca-file /ca.pem crt /own.pem "
            "sni str(web.example) check-sni web.example verifyhost web.example alpn http/1.1",
            id="mutual",
        ),
        pytest.param(
            InstanceTls(ca="/it's $A #1.pem"),
            "tcp",
            """ssl ssl-min-ver TLSv1.2 verify required ca-file '/it'"'"'s $A #1.pem'""",
            id="tcp, no name, and a path that must be quoted",
        ),
        pytest.param(
            InstanceTls(verify="none", server_name="web.example"),
            "tcp",
            "ssl ssl-min-ver TLSv1.2 verify none sni str(web.example) check-sni web.example",
            id="nobody is verified",
        ),
    ],
)
def test_the_words_of_a_server_line(tls: InstanceTls | None, mode: str, words: str) -> None:
    """Whoever is asked by name is verified by name, by requests and by the health check alike."""
    assert " ".join(server_words(tls, mode)) == words  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tls", "mode", "words"),
    [
        pytest.param(None, "http", "", id="no tls"),
        pytest.param(
            ListenTls(certificate="/a b.pem"), "tcp", "ssl ssl-min-ver TLSv1.2 crt '/a b.pem'", id="anybody may come"
        ),
        pytest.param(
            ListenTls(certificate="/a.pem", client_ca="/ca.pem"),
            "http",
            "ssl ssl-min-ver TLSv1.2 crt /a.pem ca-file /ca.pem verify required alpn h2,http/1.1",
            id="clients must show a certificate",
        ),
    ],
)
def test_the_words_of_a_bind_line(tls: ListenTls | None, mode: str, words: str) -> None:
    """HTTP/2 is offered to the clients of HTTP; a client authority is never believed without being asked for."""
    assert " ".join(bind_words(tls, mode)) == words  # type: ignore[arg-type]


WHOLE = Proxy(
    tls=InstanceTls(ca="/ca.pem", certificate="/own.pem", key="/own.key"),
    also_listen=(
        Bind(address=TcpAddress("127.0.0.1", 1)),
        Bind(
            address=TcpAddress("127.0.0.1", 2),
            tls=ListenTls(certificate="/tls.crt", key="/tls.key", client_ca="/ca.pem"),
        ),
    ),
)


def test_the_files_of_a_proxy() -> None:
    """Each with the key that names it; one that is named twice for the same purpose is one file."""
    found = list(tls_files(WHOLE))
    assert found == [
        ("tls.ca", TlsFile(kind=Kind.AUTHORITIES, path="/ca.pem")),
        ("tls.certificate", TlsFile(kind=Kind.CERTIFICATE, path="/own.pem", key="/own.key")),
        ("also_listen[1].tls.certificate", TlsFile(kind=Kind.CERTIFICATE, path="/tls.crt", key="/tls.key")),
        ("also_listen[1].tls.client_ca", TlsFile(kind=Kind.AUTHORITIES, path="/ca.pem")),
    ]
    assert len({file for _, file in found}) == 3


def test_haproxy_is_told_of_the_copies() -> None:
    """Every path in the proxy that is rendered is that of its file's copy, and no key is left over."""
    placed = in_place(WHOLE, "/state/certificates")
    assert [file.path for _, file in tls_files(placed)] == [
        f"/state/certificates/{file.copy}" for _, file in tls_files(WHOLE)
    ]
    assert all(file.key is None for _, file in tls_files(placed))
    assert in_place(Proxy(), "/state/certificates") == Proxy()


@given(
    st.lists(
        st.tuples(st.sampled_from(Kind), st.text(min_size=1, max_size=80), st.none() | st.text(min_size=1, max_size=9)),
        unique=True,
    )
)
def test_copies_have_harmless_names_and_never_the_same(files: list[tuple[Kind, str, str | None]]) -> None:
    """Whatever a path has in it, the copy's name is letters, digits, '_', '.' and '-', short, and its alone. It ends
    with `.pem`, which HAProxy takes for a whole file."""
    names = {TlsFile(kind=kind, path=path, key=key).copy for kind, path, key in files}
    assert len(names) == len(files)
    assert all(re.fullmatch(r"[0-9a-f]{12}-[A-Za-z0-9_.-]{0,40}\.pem", name) for name in names)


@pytest.mark.parametrize(
    ("left", "lifetime", "said"),
    [
        pytest.param(15 * DAY, 365 * DAY, None, id="two weeks and more are left"),
        pytest.param(13 * DAY, 365 * DAY, "expires at ", id="less than two weeks"),
        pytest.param(0.3 * DAY, DAY, None, id="one of a day has time until its last fifth"),
        pytest.param(0.1 * DAY, DAY, "expires at ", id="one of a day in its last fifth"),
        pytest.param(-1.0, DAY, "expired at ", id="too late"),
    ],
)
def test_when_a_certificate_should_have_been_renewed(left: float, lifetime: float, said: str | None) -> None:
    """Two weeks before its end, or in the last fifth of its time where that is shorter."""
    now = 1_800_000_000.0
    told = overdue(now + left - lifetime, now + left, now)
    assert told is None if said is None else told is not None and told.startswith(said)


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(Proxy, load_yaml(text, "web.yaml", {}), path="web.yaml")
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        ("{}", "tls.ca: is missing: the authorities that are believed (or verify: none)"),
        ("{ca: /ca.pem, verify: none}", "tls.ca: is of no use with verify: none"),
        ("{ca: /ca.pem, key: /k.pem}", "tls.key: needs a certificate beside it"),
        *(
            (
                f"{{ca: /ca.pem, server_name: '{name}'}}",
                "tls.server_name: must be a host name: HAProxy verifies no IP addresses in certificates",
            )
            for name in ("10.0.0.5", "::1", "a b", "web) check-sni x", "*.example", "", "web,path")
        ),
    ],
)
def test_what_a_definition_may_not_say(tls: str, problem: str) -> None:
    """What would verify nobody without saying so, and names that HAProxy could not verify or would misread."""
    assert problems_of(f"listen: 1\ntls: {tls}") == [problem]


# What is read of a file


def test_a_certificate_is_written_anew() -> None:
    """Out of one file or two, with comments and other line ends: always the same text, the key first."""
    bundle = b"Bag Attributes: x\n\n" + CERTIFICATE.replace(b"\n", b"\r\n") + b"\n# mine\n" + CA + KEY
    text = certificate_text(bundle, None)
    assert text == certificate_text(CERTIFICATE + CA, KEY + CERTIFICATE)
    assert [block.label for block in blocks(text.encode())][1:] == ["CERTIFICATE", "CERTIFICATE"]
    assert text.count("\n\n") == 0
    assert ssl.PEM_cert_to_DER_cert(CERTIFICATE.decode()) in [block.data for block in blocks(text.encode())]


def test_authorities_are_each_there_once_and_nothing_else_is() -> None:
    """A key that somebody left in the file goes no further."""
    assert authorities_text(CA + KEY + OTHER_CA + CA) == authorities_text(CA + OTHER_CA)


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        pytest.param(b"", None, "holds no certificate in PEM form", id="empty"),
        pytest.param(KEY, None, "holds no certificate in PEM form", id="only a key"),
        pytest.param(
            CERTIFICATE,
            None,
            "is without its private key in PEM form (give its file as `key`)",
            id="only a certificate",
        ),
        pytest.param(CERTIFICATE, CERTIFICATE, "is without its private key in PEM form", id="the key's file has none"),
        pytest.param(KEY + CERTIFICATE + KEY, None, "has more than one private key", id="two keys"),
        pytest.param(
            KEY + CERTIFICATE[:-40], None, "is cut off: a certificate in it begins and does not end", id="cut"
        ),
        pytest.param(
            CERTIFICATE[:-40] + KEY, None, "is garbled: what begins and what ends in it does not", id="cut amid"
        ),
        pytest.param(
            KEY + CERTIFICATE.replace(b"M", b"!"), None, "is garbled: a certificate in it is not in PEM", id="garbled"
        ),
        pytest.param(
            CERTIFICATE + b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
            None,
            "has a key with a passphrase; store the key without one",
            id="a passphrase",
        ),
        pytest.param(
            CERTIFICATE + b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n-----END RSA PRIVATE KEY-----\n",
            None,
            "has a key with a passphrase; store the key without one",
            id="a passphrase of old",
        ),
    ],
)
def test_files_that_cannot_be_used(certificate: bytes, key: bytes | None, reason: str) -> None:
    """Each is refused with what is wrong with it, as the end of a sentence that begins with the file."""
    with pytest.raises(UnusablePem, match=re.escape(reason)):
        certificate_text(certificate, key)


@given(st.binary(max_size=300), st.integers(0, len(KEY + CERTIFICATE)), st.integers(0, 300))
def test_nothing_of_a_file_is_a_command(noise: bytes, at: int, without: int) -> None:
    """However a file is damaged, and whatever stands in it: what goes to HAProxy is PEM blocks without an empty line,
    or nothing."""
    whole = KEY + CERTIFICATE
    try:
        text = certificate_text(whole[:at] + noise + whole[at + without :], None)
    except UnusablePem:
        return
    assert re.fullmatch(r"(-----BEGIN [A-Z0-9 ]+-----\n([A-Za-z0-9+/=]{1,64}\n)+-----END [A-Z0-9 ]+-----\n)+", text)
    assert load(Kind.CERTIFICATE, "/c.pem", text) is not None


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5))
def test_what_is_written_is_read_again(contents: list[bytes]) -> None:
    """Blocks of any content come back as they were."""
    made = [Block(label="CERTIFICATE", data=data) for data in contents]
    assert list(blocks("".join(block.text for block in made).encode())) == made


# What is sent to HAProxy, and its answers (of 2.6.12)

SHOWN_CERTIFICATE = """Filename: /tls/leaf.pem
Status: Used
Serial: 3D122377B15DDED255C21C65EBD0FDF966DE391B
notBefore: Jan  1 00:00:00 2000 GMT
notAfter: Mar 31 23:59:58 2030 GMT
Subject Alternative Name: DNS:web.test
Algorithm: EC256
SHA1 FingerPrint: 29A08F7383051BFE3C23B4591827CE257EE315D7
Subject: /O=trustme v1.2.1/OU=Testing cert #xe1kKApsqewK_2Q9
Issuer: /O=trustme v1.2.1/OU=Testing CA #Z1jPaFgrb5htDkfw
OCSP Response Key:\x20

"""
SHOWN_AUTHORITIES = """Filename: /tls/ca.pem
Status: Used
\x20
Certificate #1:
Serial: 67E5601B
notBefore: Jan  1 00:00:00 2000 GMT
notAfter: Jan  1 00:00:00 3000 GMT
SHA1 FingerPrint: AA
Subject: /O=trustme
\x20
Certificate #2:
Serial: 33C49C56
notBefore: Jan  1 00:00:00 2000 GMT
notAfter: Jan  1 00:00:01 2000 GMT
SHA1 FingerPrint: BB
Subject: /O=trustme

"""


def test_what_haproxy_has_loaded() -> None:
    """Each certificate of a file with its serial number, its dates and its fingerprint."""
    assert parse_shown(SHOWN_CERTIFICATE) == (
        Shown(
            serial="3D122377B15DDED255C21C65EBD0FDF966DE391B",
            fingerprint="29A08F7383051BFE3C23B4591827CE257EE315D7",
            begins=946_684_800.0,
            expires=1_901_231_998.0,
        ),
    )
    authorities = parse_shown(SHOWN_AUTHORITIES)
    assert authorities is not None
    assert [(each.serial, each.fingerprint) for each in authorities] == [("67E5601B", "AA"), ("33C49C56", "BB")]


def test_a_fingerprint_is_haproxys() -> None:
    """It is the SHA-1 of the certificate, in capitals, as HAProxy and OpenSSL print it."""
    (own,) = fingerprints(CERTIFICATE.decode())
    assert re.fullmatch(r"[0-9A-F]{40}", own)
    assert fingerprints(authorities_text(CA + OTHER_CA)) != fingerprints(authorities_text(CA))


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        ("Can't display the certificate: Not found or the certificate is a bundle!\n\n", ()),
        ("Can't display the CA file : Not found!\n\n", ()),
        ("Unknown command: 'show ssl ca-file', but maybe one of the following ones is a better match:\n", None),
        ("", None),
        ("Serial: 1\nnotBefore: yesterday\nnotAfter: Feb 31 00:00:00 2030 GMT\nSHA1 FingerPrint: AA\n", None),
    ],
)
def test_answers_that_show_no_certificate(answer: str, known: tuple[Shown, ...] | None) -> None:
    """That HAProxy has not loaded a file is known; that it cannot tell, or says something else, is not the same."""
    assert parse_shown(answer) == known


@pytest.mark.parametrize(
    ("answer", "loading", "words"),
    [
        (
            "Transaction created for certificate /c.pem!\n\nCommitting /c.pem..\nSuccess!\n\n",
            Loading.DONE,
            "",
        ),
        ("transaction created for CA /ca.pem!\n\nCommitting /ca.pem..\nSuccess!\n\n", Loading.DONE, ""),
        (
            "Transaction updated for certificate /c.pem!\n\n"
            "inconsistencies between private key and certificate loaded '/c.pem'.\nCan't commit /c.pem!\n\n",
            Loading.REFUSED,
            "inconsistencies between private key and certificate loaded '/c.pem'.",
        ),
        (
            "Can't replace a certificate which is not referenced by the configuration!\nCan't update /c.pem!\n\n"
            "No ongoing transaction! !\nCan't commit /c.pem!\n\n",
            Loading.REFUSED,
            "Can't replace a certificate which is not referenced by the configuration! No ongoing transaction! !",
        ),
        ("Unknown command: 'set ssl ca-file', but maybe one of the following", Loading.IMPOSSIBLE, ""),
        ("", Loading.IMPOSSIBLE, ""),
    ],
)
def test_what_came_of_loading(answer: str, loading: Loading, words: str) -> None:
    """Only `Success!` is success. A HAProxy that hangs up, or does not know the command, cannot do it at run time."""
    assert parse_loaded(answer) == (loading, words)


def test_a_payload_ends_where_it_should() -> None:
    """The text, an empty line, and only then the next command."""
    pem = certificate_text(CERTIFICATE, KEY)
    assert load(Kind.CERTIFICATE, "/c.pem", pem) == f"set ssl cert /c.pem <<\n{pem}\ncommit ssl cert /c.pem"


@pytest.mark.parametrize("path", ["/a b.pem", "/a;b.pem", "/a\nb.pem", "/a\\b.pem", "/a#b.pem", "relative.pem", "@1"])
def test_paths_that_no_command_may_have(path: str) -> None:
    """What HAProxy could read as the end of a word or of a command is not sent."""
    assert show(Kind.CERTIFICATE, path) is None
    assert load(Kind.CERTIFICATE, path, certificate_text(CERTIFICATE, KEY)) is None


def test_a_payload_that_is_too_long_is_not_sent() -> None:
    """HAProxy would hang up in its middle."""
    many = "".join(Block(label="CERTIFICATE", data=bytes([number]) * 1000).text for number in range(20))
    assert len(many) > COMMAND_LIMIT
    assert load(Kind.AUTHORITIES, "/ca.pem", many) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quit\n",
        "-----BEGIN A-----\n",
        "-----BEGIN A-----\n\nshutdown frontend web\n-----END A-----\n",
    ],
)
def test_a_text_that_is_no_pem_is_a_defect(text: str) -> None:
    """The last guard before the socket."""
    with pytest.raises(ValueError, match="may not be sent"):
        load(Kind.AUTHORITIES, "/ca.pem", text)
