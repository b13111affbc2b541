"""Frames on disk: what was written is read again, and anything else is told of and not taken."""

import base64
import json
import math
import zlib
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from synapse.telemetry.cells import WIDTH
from synapse.telemetry.frames import Frame, Group, cells_of, condense, loosen, pack, read, write

FRAME = Frame(number=100_000, covered=9.5, groups={"service": pack({("web", "http"): [1.0] * WIDTH})})


def packed(numbers: list[float]) -> str:
    return base64.b64encode(zlib.compress(array("d", numbers).tobytes())).decode()


def test_frames_are_read_as_they_were_written() -> None:
    """All of them."""
    other = Frame(number=100_001, covered=10.0, groups={})
    assert read(write([FRAME, other])) == (FRAME, other)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The file of one frame, with something in it changed."""
    content = json.loads(zlib.decompress(write([FRAME])))
    change(content)
    return zlib.compress(json.dumps(content).encode())


def frame(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["frames"][0].update(fields)


def group(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["frames"][0]["groups"]["service"].update(fields)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content.update(format=2), id="another version"),
        pytest.param(lambda content: content.update(width=WIDTH + 1), id="other cells"),
        pytest.param(lambda content: content.update(frames=7), id="no frames"),
        pytest.param(lambda content: content.pop("frames"), id="frames missing"),
        pytest.param(frame(number=-1), id="a number below 0"),
        pytest.param(frame(number=2**40), id="a number beyond all time"),
        pytest.param(frame(number=1.5), id="a broken number"),
        pytest.param(frame(number=True), id="a number that is true"),
        pytest.param(frame(covered=10.5), id="more than all covered"),
        pytest.param(frame(covered=-1), id="less than nothing covered"),
        pytest.param(frame(covered=math.nan), id="covered is no number"),
        pytest.param(frame(groups=7), id="groups of another kind"),
        pytest.param(frame(groups={"service": None}), id="a group of another kind"),
        pytest.param(group(keys=[["web"]]), id="a key that is too short"),
        pytest.param(group(keys=[["web", 7]]), id="a key with a number"),
        pytest.param(group(keys=[["web", "x" * 300]]), id="a label that is too long"),
        pytest.param(group(keys=[["web", "http"], ["api", "http"]]), id="fewer cells than keys"),
        pytest.param(group(keys=[]), id="more cells than keys"),
        pytest.param(group(packed="?"), id="no base64"),
        pytest.param(group(packed="AAAA"), id="not compressed"),
        pytest.param(group(packed=packed([math.nan] * WIDTH)), id="cells that are no numbers"),
        pytest.param(group(packed=packed([math.inf] * WIDTH)), id="cells without end"),
        pytest.param(group(packed=packed([-1.0] * WIDTH)), id="cells below 0"),
        pytest.param(group(packed=packed([0.0] * 1_000_000)), id="a bomb"),
    ],
)
def test_what_does_not_fit_is_told_of(change: Callable[[dict[str, Any]], object]) -> None:
    """A `ValueError`, and nothing of the file is taken."""
    with pytest.raises(ValueError, match=r"\w"):
        read(changed(change))


def test_what_follows_each_other_with_the_same_keys_is_added_up() -> None:
    """And nothing else: others stay as they are, in their order."""
    keys = (("web", "a"), ("web", "b"))
    one = Group(keys, pack({keys[0]: [1.0] * WIDTH, keys[1]: [2.0] * WIDTH}).packed)
    other = loosen({("web", "b"): [5.0] * WIDTH})
    found = [[(key, cell[0]) for key, cell in cells_of(part)] for part in condense([one, one, other, one])]
    assert found == [
        [(keys[0], 2.0), (keys[1], 4.0)],
        [(keys[1], 5.0)],
        [(keys[0], 1.0), (keys[1], 2.0)],
    ]
    assert list(condense([])) == []
