"""The kinds of check: one module each, found by the entry points of the group `smartstack.checks`."""
