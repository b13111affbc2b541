"""For each guarantee, the one line of the product that breaks it, and the test that sees it."""
