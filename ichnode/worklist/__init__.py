"""The worklist: what arrived, what became of it and what is still owed; the only room with SQL.

`Worklist` (worklist.py) is the door. Its methods are the transactions: each opens one, does its
work, commits and returns words of the domain; no session and no row leaves the room.
"""
