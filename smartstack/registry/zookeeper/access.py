"""What we show to ZooKeeper: the user and its password, and the rights that what we write gets.

Everything is read when a client is made, so that a new password in the file counts from the next one on; the files of
TLS are read at every connect.
"""

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import Any

from kazoo.protocol.connection import PURESASL_AVAILABLE
from kazoo.security import ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Id, Permissions, make_digest_acl

from smartstack.errors import RegistryRefused
from smartstack.registry.options import ZooKeeperOptions
from smartstack.registry.zookeeper import tls

PASSWORD_LIMIT = 4096
"""Largest password file, in bytes: beyond that it is some other file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What one client shows. `rights` is the ACL of all that it makes: everything for this user, reading for all."""

    rights: tuple[Any, ...]
    auth_data: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    sasl: dict[str, str] | None = field(default=None, repr=False)


OPEN = Access(rights=tuple(OPEN_ACL_UNSAFE))
"""Nobody in particular: what is made is open to all."""


def check(options: ZooKeeperOptions) -> None:
    """Read every file that the options name. Raises `RegistryRefused` with one sentence that names the wrong one."""
    read(options)
    if options.tls is not None:
        tls.context(options.tls)


def read(options: ZooKeeperOptions) -> Access:
    """What a new client shows. Raises `RegistryRefused` when the password cannot be read."""
    user = options.user
    if user is None:
        return OPEN
    password = _password(options)
    if options.auth == "digest":
        rights = (make_digest_acl(user, password, all=True), *READ_ACL_UNSAFE)
        return Access(rights=rights, auth_data=(("digest", f"{user}:{password}"),))
    if not PURESASL_AVAILABLE:
        raise RegistryRefused(
            "cannot use ZooKeeper with auth: sasl: the package pure-sasl is not installed (pip install "
            "'smartstack-py[sasl]')"
        )
    return Access(
        rights=(ACL(Permissions.ALL, Id("sasl", user)), *READ_ACL_UNSAFE),
        sasl={"mechanism": "DIGEST-MD5", "username": user, "password": password},
    )


def who(options: ZooKeeperOptions) -> str:
    """Who we are, for people: `as user nerve (digest)`, or `without a user`."""
    return "without a user" if options.user is None else f"as user {options.user} ({options.auth})"


def _password(options: ZooKeeperOptions) -> str:
    if options.password_file is None:
        return options.password.reveal() if options.password is not None else ""
    path = options.password_file
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise OSError(errno.EINVAL, "not a regular file")
            content = os.read(descriptor, PASSWORD_LIMIT + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _refusal(path, f"cannot be read: {(error.strerror or str(error)).lower()}") from error
    if mode & stat.S_IROTH:
        raise _refusal(path, "may be read by every user of this host: chmod o-r it")
    try:
        text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable() or len(content) > PASSWORD_LIMIT:
        raise _refusal(path, "must hold the password and nothing else, as one line of UTF-8")
    return text


def _refusal(path: str, reason: str) -> RegistryRefused:
    return RegistryRefused(f"cannot log in to ZooKeeper: password_file {path} {reason}")
