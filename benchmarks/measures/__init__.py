"""The measures, in the order in which they run."""

from benchmarks.measures import (
    backlog,
    chain,
    cpu,
    drain,
    enqueue,
    http,
    latency,
    memory,
    remote,
    results,
    startup,
    threads,
    waiters,
)

MEASURES = {
    module.MEASURE.name: module.MEASURE
    for module in (
        startup,
        memory,
        enqueue,
        drain,
        chain,
        results,
        backlog,
        cpu,
        threads,
        latency,
        waiters,
        http,
        remote,
    )
}
"""The measures by name."""
