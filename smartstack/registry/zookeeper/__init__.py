"""The ZooKeeper registry, and the only home of kazoo.

    wire      requests and events that kazoo lacks, or has only with its own watch handling
    client    one kazoo client: what is taken over from it, how it is bounded, how it ends
    link      the life of the link: connected or not and since when, pipelined requests with time-outs
    access    who we are: user, password, the rights of what we write
    tls       encrypted connections
    rights    whether we may write
    session_file  the session on disk, for the process that comes after this one
    paths     where things stand in the tree
    services  what a reader knows of each service
    reader    RegistryReader
    writer    RegistryWriter

None of kazoo's recipes, watchers or retries are used: they lose watches at every disconnect, start a thread for each
watch at every reconnect, and hide how long they wait. Here a watch only rings, and after every connect everything is
read again.
"""

from smartstack.registry.zookeeper.reader import ZooKeeperReader
from smartstack.registry.zookeeper.writer import ZooKeeperWriter

__all__ = ["ZooKeeperReader", "ZooKeeperWriter"]
