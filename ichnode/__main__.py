"""``python -m ichnode`` is the ``ichnode`` command."""

from ichnode.cli import main

if __name__ == "__main__":
    main()
