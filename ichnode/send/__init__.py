"""Deliveries: documents by C-STORE, reading priority by UPS, and a sender of whole folders.

Called by the service with a `DeliveryWork` for one destination, answers what became of each row. It
knows nothing of queues; the bytes it sends are those that were built, every time.
"""
