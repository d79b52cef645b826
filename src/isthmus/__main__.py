"""``python -m isthmus``: the command line."""

from isthmus.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
