"""Tests of rules that hold for any input: hypothesis looks for the one that breaks them."""
