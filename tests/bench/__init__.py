"""Programs that measure and print; nothing here asserts a time."""
