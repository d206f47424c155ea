"""The words of the trade: standard library only, imported by every other room."""
