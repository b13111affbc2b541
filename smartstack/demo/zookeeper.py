"""The demo's own ZooKeeper: Debian's packages, one process on loopback."""

import shutil
import socket
from pathlib import Path

from smartstack.errors import SmartStackError
from smartstack.forms import TcpAddress

JARS = {
    "/usr/share/java/zookeeper.jar": "libzookeeper-java",
    "/usr/share/java/slf4j-simple.jar": "libslf4j-java",
}
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"

_ANSWER_SECONDS = 0.1


def configuration(address: TcpAddress, data: str) -> str:
    """zoo.cfg. A tick of a second allows sessions from 2 s to 20 s."""
    return f"""\
tickTime=1000
dataDir={data}
clientPortAddress={address.host}
clientPort={address.port}
admin.enableServer=false
4lw.commands.whitelist=srvr
maxClientCnxns=0
"""


def command(configuration_path: str) -> list[str]:
    """What starts it. Raises SmartStackError that says what to install."""
    java = shutil.which("java")
    missing = [package for jar, package in JARS.items() if not Path(jar).exists()]
    if java is None:
        missing.append("default-jre-headless")
    if java is None or missing:
        raise SmartStackError(
            f"cannot start ZooKeeper: install {' '.join(missing)} (Debian: apt-get install {' '.join(missing)}), or "
            "take the registry that needs no server: --registry file"
        )
    return [
        *(java, "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.jmx.log4j.disable=true"),
        *("-cp", ":".join(JARS), MAIN, configuration_path),
    ]


def answers(address: TcpAddress) -> bool:
    """Whether it serves (the command `srvr`)."""
    try:
        with socket.create_connection((address.host, address.port), timeout=_ANSWER_SECONDS) as link:
            link.sendall(b"srvr")
            return b"Mode:" in link.makefile("rb").read()
    except OSError:
        return False
