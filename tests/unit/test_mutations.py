"""The table of mutations fits the product and its tests as they are. That each is seen, `make mutations` shows."""

import re
from pathlib import Path

import pytest

from tests.lab.report import put_between
from tests.mutations.__main__ import BEGIN, END, GUARANTEES
from tests.mutations.table import ROOT, Mutation, document, mutations

ALL = pytest.mark.parametrize("mutation", mutations(), ids=lambda each: each.name)


@ALL
def test_a_mutation_changes_one_place_of_the_product(mutation: Mutation) -> None:
    """The line is there once, what comes of it differs, and Python can still read it."""
    text = (ROOT / mutation.file).read_text(encoding="utf-8")
    changed = mutation.apply(text)
    assert changed != text
    assert Path(mutation.file).parts[0] in ("nerve", "synapse", "smartstack", "haproxy_templates")
    if mutation.file.endswith(".py"):
        compile(changed, mutation.file, "exec")


@ALL
def test_its_test_is_there(mutation: Mutation) -> None:
    """By the name that the table gives."""
    path, _, name = mutation.seen_by.partition("::")
    name = name.partition("[")[0] or "test_"
    assert re.search(rf"^def {re.escape(name)}", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_each_guarantee_is_broken_once() -> None:
    """And has its row in the document, which is as the program writes it."""
    guarantees = [each.guarantee for each in mutations()]
    assert len(set(guarantees)) == len(guarantees)
    text = GUARANTEES.read_text(encoding="utf-8")
    assert put_between(text, BEGIN, END, document()) == text
