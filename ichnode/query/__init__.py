"""The reading list, published: UPS tasks and a plain Study Root query, behind the receiver's door.

Knows no socket and no SQL: it is handed requests and the worklist, and hands back answers.
"""
