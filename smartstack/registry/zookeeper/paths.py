"""Where things stand in ZooKeeper's tree: pure functions of paths."""


def absolute(root: str, path: str) -> str:
    """A service's full path: below the root, unless it begins with a slash and so stands where it says."""
    full = path if path.startswith("/") else f"{root}/{path}"
    return full.rstrip("/") or "/"


def join(parent: str, name: str) -> str:
    """The path of a child."""
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


def split(path: str) -> tuple[str, str]:
    """The parent's path and the child's name; of the tree's root an empty name."""
    parent, _, name = path.rpartition("/")
    return parent or "/", name


def ancestors(path: str) -> list[str]:
    """Every path above this one, the topmost first, without the tree's root."""
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(2, len(parts))]
