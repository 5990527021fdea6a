"""The worker: claims steps of the functions that it offers, runs them, and writes their outcomes.

`raincheck.worker.worker` is the way of a step through a worker; its parts are the other modules.
"""

from raincheck.worker.worker import Worker

__all__ = ["Worker"]
