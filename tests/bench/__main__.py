"""`make bench`: every benchmark, one after the other."""

from tests.bench import propagation


def main() -> None:
    """Run them all with their defaults."""
    propagation.main()


if __name__ == "__main__":
    main()
