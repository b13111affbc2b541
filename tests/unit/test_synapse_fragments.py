"""A text that was good once, with other instances in its slots."""

from synapse.fragments import slot_counts, with_slots
from synapse.proxy import SlotLine

TEXT = """backend web
    mode http
    server own 10.9.9.9:1
    server s1 127.0.0.1:9 weight 100 check cookie s1 disabled
    server s2 127.0.0.1:9 weight 100 check cookie s2 disabled
    # s2 server
    server b1 127.0.0.1:9 weight 100 check backup disabled
    description end
"""


def slot(name: str, address: str = "", weight: int = 100) -> SlotLine:
    """A slot with this instance behind it; spare if it has none."""
    backup = name.startswith("b")
    return SlotLine(name=name, address=address or "127.0.0.1:9", weight=weight, disabled=not address, backup=backup)


def changed(*slots: SlotLine) -> list[str]:
    """What stands in the place of the lines of slots, and nothing else changed."""
    lines = with_slots(TEXT, slots).split("\n")
    others = [line for line in TEXT.split("\n") if " server s" not in line and " server b" not in line]
    assert [line for line in lines if " server s" not in line and " server b" not in line] == others
    return [line.strip() for line in lines if " server s" in line or " server b" in line]


def test_the_same_slots_give_the_same_text() -> None:
    """So that its digest is that of the text, and no reload comes of it."""
    assert with_slots(TEXT, [slot("s1"), slot("s2"), slot("b1")]) == TEXT
    assert slot_counts(TEXT) == (2, 1)


def test_an_instance_in_a_slot() -> None:
    """The address and the weight are its own, and the slot is not disabled; everything else of the line stays."""
    assert changed(slot("s1"), slot("s2", "10.0.0.1:80", 7), slot("b1", "[::1]:80", 0)) == [
        "server s1 127.0.0.1:9 weight 100 check cookie s1 disabled",
        "server s2 10.0.0.1:80 weight 7 check cookie s2",
        "server b1 [::1]:80 weight 0 check backup",
    ]


def test_more_slots_and_fewer() -> None:
    """New ones are like the last of their side, under their own names; those that are not wanted go."""
    assert changed(slot("s1"), slot("s2"), slot("s3"), slot("s4", "10.0.0.4:80"), slot("b1"), slot("b2")) == [
        "server s1 127.0.0.1:9 weight 100 check cookie s1 disabled",
        "server s2 127.0.0.1:9 weight 100 check cookie s2 disabled",
        "server s3 127.0.0.1:9 weight 100 check cookie s3 disabled",
        "server s4 10.0.0.4:80 weight 100 check cookie s4",
        "server b1 127.0.0.1:9 weight 100 check backup disabled",
        "server b2 127.0.0.1:9 weight 100 check backup disabled",
    ]
    assert changed(slot("s1")) == ["server s1 127.0.0.1:9 weight 100 check cookie s1 disabled"]


def test_a_side_that_the_text_does_not_have() -> None:
    """Nobody knows what its lines would be."""
    assert "server b1" not in with_slots("backend web\n    server s1 127.0.0.1:9\n", [slot("s1"), slot("b1")])
