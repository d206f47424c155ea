"""The commands of ``python -m train``: thin, each importing what it needs when it runs."""
