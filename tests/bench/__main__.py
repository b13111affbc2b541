"""`make bench`: every benchmark, one after the other."""

from tests.bench import nerve, propagation


def main() -> None:
    """Run them all with their defaults."""
    propagation.main()
    nerve.main([])


if __name__ == "__main__":
    main()
