"""How processes with one SQLite file hear of each other: by the bell, or by looking."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import pytest

from raincheck.core.model import Stored
from raincheck.store import Store, make_store
from raincheck.store.sqlite.notifier import Notification, Notifier
from raincheck.store.watches import Watches
from tests.contract.steps import HOUR, SOON, Ear, finish, submit, take_one, waiting


class Heard:
    """What a bell heard."""

    def __init__(self) -> None:
        self._rings: SimpleQueue[Notification] = SimpleQueue()

    def __call__(self, ring: Notification) -> None:
        self._rings.put(ring)

    def next(self) -> Notification:
        """The next ring."""
        return self._rings.get(timeout=SOON)

    @property
    def nothing(self) -> bool:
        """Whether there is none so far."""
        return self._rings.empty()


@pytest.fixture
def path(url: str) -> Path:
    """Where the database is."""
    return Path(url.removeprefix("sqlite:///"))


Make = Callable[[Callable[[Notification], None]], Notifier]


@pytest.fixture
def make_bell(path: Path) -> Iterator[Make]:
    """Makes bells, each as of a process of its own."""
    with ExitStack() as stack:

        def make(heard: Callable[[Notification], None]) -> Notifier:
            bell = Notifier(path, heard)
            stack.callback(bell.close)
            return bell

        yield make


class TestBell:
    """The bell alone."""

    def test_all_others_hear_a_ring(self, make_bell: Make) -> None:
        """And whoever rings does not."""
        ears = [Heard() for _ in range(3)]
        bells = [make_bell(ear) for ear in ears]
        assert [bell.listen() for bell in bells * 2] == [True, True, True, False, False, False]
        bells[0].notify(["f"], ["job"])
        assert [ear.next() for ear in ears[1:]] == [Notification(["f"], ["job"])] * 2
        assert ears[0].nothing

    def test_one_that_begins_to_listen_is_heard_of_at_once(self, make_bell: Make) -> None:
        """However soon after the last look at the folder."""
        ringer = make_bell(Heard())
        for number in range(20):
            heard = Heard()
            ringer.notify([], [])
            assert make_bell(heard).listen()
            ringer.notify([str(number)], [])
            assert heard.next() == Notification([str(number)], [])

    def test_a_word_too_long_to_be_sent_is_to_look_at_everything(self, make_bell: Make) -> None:
        """The bell is a hint, so a shorter one will do."""
        heard = Heard()
        assert make_bell(heard).listen()
        make_bell(Heard()).notify(["f"], [f"job-{i:032}" for i in range(5000)])
        assert heard.next() == Notification([], [], True)

    def test_one_that_hears_slowly_is_rung_again(self, make_bell: Make) -> None:
        """It is told to look at everything once there is room."""
        heard, gate = Heard(), Event()

        def hear_slowly(ring: Notification) -> None:
            assert gate.wait(SOON)
            heard(ring)

        assert make_bell(hear_slowly).listen()
        ringer = make_bell(Heard())
        rung = 0
        while not ringer.behind:
            ringer.notify([f"f{rung}"], [])
            rung += 1
            assert rung < 10_000
        gate.set()
        while ringer.behind:
            ringer.notify_missed()
        assert [heard.next() for _ in range(rung)][-1] == Notification([], [], True)

    def test_the_socket_of_a_dead_process_is_removed(self, path: Path, make_bell: Make) -> None:
        """By the first that rings it."""
        folder = path.with_name(path.name + "-bell")
        folder.mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(str(folder / "dead"))
        assert [each.name for each in folder.iterdir()] == ["dead"]
        make_bell(Heard()).notify(["f"], [])
        assert list(folder.iterdir()) == []

    def test_nonsense_is_not_heard(self, path: Path, make_bell: Make) -> None:
        """Whoever sends it."""
        heard = Heard()
        assert make_bell(heard).listen()
        (address,) = path.with_name(path.name + "-bell").iterdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            for message in (b"", b"nonsense", b"\xff\x00", b"\x90", b"\x93\x01\x02\x03"):
                stranger.sendto(message, str(address))
        make_bell(Heard()).notify(["f"], [])
        assert heard.next() == Notification(["f"], [])

    def test_nothing_is_left_when_all_have_left(self, path: Path) -> None:
        """No socket and no folder."""
        bells = [Notifier(path, Heard()) for _ in range(2)]
        for bell in bells:
            assert bell.listen()
        for bell in bells:
            bell.close()
        assert list(path.parent.iterdir()) == []

    def test_a_bell_that_cannot_be_made_is_deaf(self, path: Path, make_bell: Make) -> None:
        """It neither fails, nor rings, nor hears."""
        path.with_name(path.name + "-bell").touch()
        bell = make_bell(Heard())
        assert (bell.listen(), bell.deaf) == (False, True)
        bell.notify(["f"], ["job"])

    def test_a_path_too_long_for_a_socket_does_no_harm(self, path: Path) -> None:
        """Then the bell is deaf, unless the path from the current folder is shorter."""
        deep = path.parent / ("x" * 120)
        deep.mkdir()
        bell = Notifier(deep / "raincheck.db", Heard())
        bell.listen()
        bell.notify(["f"], ["job"])
        bell.close()
        assert list(deep.iterdir()) == []


@pytest.fixture(params=["bell", "blocked bell"])
async def two(request: pytest.FixtureRequest, url: str, path: Path) -> AsyncIterator[tuple[Store, Store]]:
    """Two stores on one file, which hear of each other or not."""
    if request.param == "blocked bell":
        path.with_name(path.name + "-bell").touch()
    stores = make_store(url), make_store(url)
    for store in stores:
        await store.open()
    yield stores
    for store in stores:
        await store.close()


@pytest.mark.usefixtures("woken")
class TestTwoProcesses:
    """What one does wakes the other, with the bell and without."""

    async def test_every_commit_wakes_a_claim(self, two: tuple[Store, Store]) -> None:
        """None is overlooked, however quickly they follow each other."""
        here, there = two
        for _ in range(20):
            async with waiting(here, here.claim("w", ("f",), 1, HOUR, HOUR)) as claiming:
                job = await submit(there, "f")
                assert [claim.job.id for claim in await claiming] == [job.id]

    async def test_every_change_is_noticed(self, two: tuple[Store, Store]) -> None:
        """Also one that follows right after another."""
        here, there = two
        for _ in range(20):
            job = await submit(there, "f", "g")
            claim = await take_one(there, "f")
            async with waiting(here, Watches(here).changed(job.id, 1, HOUR)) as first:
                after = await finish(there, claim)
                assert await first == Stored(after)
            async with waiting(here, Watches(here).changed(job.id, 2, HOUR)) as second:
                claim = await take_one(there, "g")
                after = await finish(there, claim)
                assert await second == Stored(after)

    async def test_a_listener_is_told(self, two: tuple[Store, Store]) -> None:
        """Though nobody here waits for anything else."""
        here, there = two
        ear = Ear()
        stop = here.listen(ear)
        for _ in range(5):
            ear.told.clear()
            job = await submit(there, "f")
            await finish(there, await take_one(there, "f"))
            await ear.of(job.id)
        stop()

    async def test_a_busy_process_hears_too(self, two: tuple[Store, Store]) -> None:
        """Its own writes do not drown what others do."""
        here, there = two

        async def be_busy() -> None:
            while True:
                await submit(here, "something else")

        busy = asyncio.create_task(be_busy())
        job = await submit(there, "f")
        claim = await take_one(there, "f")
        async with waiting(here, Watches(here).changed(job.id, 1, HOUR)) as changing:
            await submit(there, "a change right before the one that is waited for")
            after = await finish(there, claim)
            assert await changing == Stored(after)
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
