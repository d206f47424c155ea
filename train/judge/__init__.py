"""How good it is, how sure that is, and where it is wrong."""
