"""How far a finished bundle carries over to real scans that training never saw."""
