"""``python -m fastshard`` is the command ``fastshard``."""

from ._cli.app import main

if __name__ == "__main__":
    main()
