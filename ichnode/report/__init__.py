"""Documents about an analysis: report, key image, key objects and presentation state.

Called by the service with a `DocumentWork`, answers with bytes on stable storage. It knows nothing
of queues, destinations or networks.
"""
