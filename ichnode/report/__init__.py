"""Documents about an analysis: the Structured Report and the Secondary Capture key image.

Called by the service with a `DocumentWork`, answers with bytes on stable storage. It knows nothing
of queues, destinations or networks.
"""
