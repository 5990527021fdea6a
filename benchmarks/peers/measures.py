"""The measures of the peers, and the targets for raincheck."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks.figures import Check, Measure, Readings, Row, at_least, at_most, ratio_to
from benchmarks.peers import baselines, drive, http_measure
from benchmarks.peers.peer_bench import PeerBench
from benchmarks.peers.roster import RAINCHECK, VALKEY, Peer

MANY, FEW = 1_000_000, 10_000
FIRST = 20_000
"""The number of jobs that are drained from the million."""

NAMES = (
    "enqueue-one", "enqueue-together", "enqueue-bulk", "drain", "chain", "latency", "memory", "bytes",
    "backlog", "cpu", "http",
)  # fmt: skip
"""The names of the measures."""

ENQUEUE = {
    "one": ("Enqueue, one caller awaiting each", {"huey": 1.2}),
    "together": ("Enqueue, 50 concurrent callers", {"bullmq": 2.0}),
    "bulk": ("Enqueue, in bulk of 1,000", {"pgqueuer": 2.0}),
}
DRAIN = {"dramatiq": 20.0, "taskiq": 20.0, "bullmq": 4.0}
BYTES, MEMORY = 450.0, 45.0


def measures(bench: PeerBench) -> list[Measure]:
    """All measures, for the selected peers."""
    return [
        *(_enqueue(bench, way) for way in ENQUEUE),
        _drain(bench),
        _chain(bench),
        _latency(bench),
        _memory(bench),
        _bytes(bench),
        _backlog(bench),
        _cpu(bench),
        http_measure.measure(bench),
    ]


def _enqueue(bench: PeerBench, way: str) -> Measure:
    peers = [peer for peer in bench.peers if way not in peer.lacks]
    title, targets = ENQUEUE[way]

    def run() -> Readings:
        if way == "one":  # the first of three measures that share one run
            bench.discard(drive.enqueue)
        return _of_each(peers, bench.enqueue, way)

    return Measure(f"enqueue-{way}", title, _rows(peers, "jobs/s", targets), lambda bench: run())


def _of_each(peers: Sequence[Peer], ask: Callable[[Peer], Readings], key: str) -> Readings:
    all_readings = {peer.key: ask(peer) for peer in peers}
    return {name: readings[key] for name, readings in all_readings.items() if key in readings}


def _rows(peers: Sequence[Peer], unit: str, targets: dict[str, float], *more: Check) -> tuple[Row, ...]:
    """A row for each peer; that of raincheck is compared with all others, with or without a target."""
    checks = (*more, *_against(peers, targets))
    return tuple(Row(peer.key, peer.name, unit, _ours(peer, *checks)) for peer in peers)


def _against(peers: Sequence[Peer], targets: dict[str, float], suffix: str = "") -> Iterator[Check]:
    for peer in peers:
        if peer.venv:
            key = f"{peer.key}{suffix}"
            yield at_least(targets[peer.key], key) if peer.key in targets else ratio_to(key)


def _ours(peer: Peer, *checks: Check) -> tuple[Check, ...]:
    """The comparisons of a row: raincheck with all peers, its variants with raincheck, a peer with none."""
    if peer.variant:
        return (ratio_to(RAINCHECK.key),)
    return checks if peer.key == RAINCHECK.key else ()


def _drain(bench: PeerBench) -> Measure:
    two = bench.systems

    def run() -> Readings:
        bench.discard(drive.drain)
        one = _of_each(bench.peers, bench.drain, "rate")
        both = _of_each(two, partial(bench.drain, workers=2), "rate")
        return one | {f"{key}_2": rate for key, rate in both.items()} | {"bare": baselines.stream(bench)}

    rows = (
        *_rows(bench.peers, "jobs/s", DRAIN, at_least(0.6, "bare")),
        Row("bare", "bare XREADGROUP + XACK of 100, no state", "jobs/s"),
        *(
            Row(
                f"{peer.key}_2",
                f"{peer.name}, two workers",
                "jobs/s",
                (at_least(1.25, peer.key) if peer.key == RAINCHECK.key else ratio_to(peer.key),),
            )
            for peer in two
        ),
    )
    return Measure("drain", "Drain, no-op jobs, one worker process or two", rows, lambda bench: run())


def _chain(bench: PeerBench) -> Measure:
    peers = [peer for peer in bench.systems if "chain" not in peer.lacks]

    def run() -> Readings:
        bench.discard(drive.chain)
        single = _of_each(bench.peers[:1], bench.drain, "rate")
        return _of_each(peers, bench.chain, "steps") | {f"{key}_1": rate for key, rate in single.items()}

    single = f"{RAINCHECK.key}_1"
    rows = (
        *_rows(peers, "steps/s", {}, at_least(0.8, single)),
        Row(single, "raincheck, steps of single-step jobs", "steps/s"),
    )
    return Measure("chain", "Chains of three, one worker process", rows, lambda bench: run())


def _latency(bench: PeerBench) -> Measure:
    def run() -> Readings:
        bench.discard(drive.latency)
        latencies = {peer.key: bench.latency(peer) for peer in bench.peers}
        return {f"{key}_{cut}": readings[cut] for key, readings in latencies.items() for cut in readings}

    p50 = (at_most(1.0), *_against(bench.peers, {}, "_p50"))
    rows = tuple(
        Row(f"{peer.key}_{cut}", f"{peer.name}, {cut}", "ms", checks if peer.key == RAINCHECK.key else ())
        for peer in bench.peers
        for cut, checks in (("p50", p50), ("p99", (at_most(4.0),)))
    )
    return Measure("latency", "Submit to result, idle", rows, lambda bench: run())


def _memory(bench: PeerBench) -> Measure:
    peers = bench.systems

    def run() -> Readings:
        idle, many = _of_each(peers, bench.latency, "rss"), _of_each(peers, bench.drain, "rss")
        return idle | {f"{key}_after": mib for key, mib in many.items()}

    def of(peer: Peer) -> tuple[Row, Row]:
        after = f"{peer.name}, after {peer.jobs:,} jobs"
        flat = _ours(peer, at_most(MEMORY), at_most(1.1, peer.key))
        return (
            Row(peer.key, f"{peer.name}, idle", "MiB", _ours(peer, at_most(MEMORY))),
            Row(f"{peer.key}_after", after, "MiB", flat),
        )

    rows = tuple(row for peer in peers for row in of(peer))
    return Measure("memory", "Memory of a worker, with its processes", rows, lambda bench: run())


def _bytes(bench: PeerBench) -> Measure:
    peers = bench.systems
    run = partial(_of_each, peers, bench.enqueue, "bytes")
    rows = tuple(Row(peer.key, peer.name, "B", _ours(peer, at_most(BYTES))) for peer in peers)
    return Measure("bytes", "Bytes in the server per queued job", rows, lambda bench: run())


def _backlog(bench: PeerBench) -> Measure:
    peers = [peer for peer in bench.peers if peer.key == RAINCHECK.key]

    def run() -> Readings:
        first = bench.size(FIRST)
        many = [bench.drain(peer, jobs=bench.size(MANY), timed=first).get("rate") for peer in peers]
        few = [bench.drain(peer, jobs=bench.size(FEW)).get("rate") for peer in peers]
        named = zip(("many", "few"), (*many, *few), strict=False)
        return {key: rate for key, rate in named if rate is not None}

    rows = (
        Row("many", f"raincheck, {bench.size(MANY):,} queued", "jobs/s", (at_least(0.9, "few"),)),
        Row("few", f"raincheck, {bench.size(FEW):,} queued", "jobs/s"),
    )
    return Measure("backlog", "Drain of a long queue", rows, lambda bench: run())


def _cpu(bench: PeerBench) -> Measure:
    peers = bench.systems

    def run() -> Readings:
        server = _of_each(peers, bench.drain, "server_cpu")
        mine = _of_each(peers, bench.drain, "cpu") | {f"{key}_server": cpu for key, cpu in server.items()}
        return mine | baselines.loop(bench)

    rows = (
        *(Row(peer.key, peer.name, "µs", _ours(peer, at_most(3.0, "gather"))) for peer in peers),
        *(
            Row(f"{peer.key}_server", f"Valkey, for {peer.name}", "µs")
            for peer in peers
            if peer.server == VALKEY
        ),
        Row("gather", "bare asyncio.gather of no-op tasks", "µs"),
        Row("to_thread", "bare asyncio.to_thread, 100 at a time", "µs"),
    )
    return Measure(
        "cpu", "Processor time per no-op job, of the worker and of the server", rows, lambda bench: run()
    )
