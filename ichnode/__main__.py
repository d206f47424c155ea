"""``python -m ichnode`` is the ``ichnode`` command."""

from ichnode.cli import app

if __name__ == "__main__":
    app()
