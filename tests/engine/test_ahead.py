"""Reading ahead: what was read belongs to the study it was read of, errors too; it stops when told."""

import time
from threading import Event

import pytest

from npc_edge.engine.ahead import ReadAhead
from npc_edge.engine.errors import Cancelled, DeadlineExceeded, Refusal
from npc_edge.engine.model.runner import FakeRunner, Runner
from npc_edge.engine.model.starting import Starting
from npc_edge.engine.types import Watch


def upper(source: str, watch: Watch) -> str:
    watch.check()
    if source == "bad":
        raise Refusal("UNREADABLE", "bad")
    return source.upper()


def test_what_was_begun_is_taken_once() -> None:
    with ReadAhead(upper) as ahead:
        assert ahead.take("a", Watch()) is None
        ahead.start("a")
        assert ahead.take("a", Watch()) == "A"
        assert ahead.take("a", Watch()) is None


def test_another_study_than_was_begun_is_not_given_for_it() -> None:
    with ReadAhead(upper) as ahead:
        ahead.start("a")
        assert ahead.take("b", Watch()) is None
        ahead.start("a")
        ahead.start("b")
        assert ahead.take("b", Watch()) == "B"


def test_what_reading_raised_is_raised_by_the_run_of_that_study() -> None:
    with ReadAhead(upper) as ahead:
        ahead.start("bad")
        with pytest.raises(Refusal, match="bad"):
            ahead.take("bad", Watch())
        ahead.start("good")
        assert ahead.take("good", Watch()) == "GOOD"


def waiting(began: Event, stopped: Event):
    def read(source: str, watch: Watch) -> str:
        began.set()
        try:
            while True:
                watch.check()
                time.sleep(0.01)
        finally:
            stopped.set()

    return read


def test_leaving_stops_what_is_read() -> None:
    began, stopped = Event(), Event()
    with ReadAhead(waiting(began, stopped)) as ahead:
        ahead.start("a")
        assert began.wait(10)
    assert stopped.is_set()


@pytest.mark.parametrize("kind", [DeadlineExceeded, Cancelled])
def test_who_waits_for_it_keeps_its_own_deadline_and_cancellation(kind: type[Cancelled]) -> None:
    began, stopped, cancel = Event(), Event(), Event()
    cancel.set()
    past = Watch(deadline=time.monotonic() - 1) if kind is DeadlineExceeded else Watch(cancel=cancel)
    with ReadAhead(waiting(began, stopped)) as ahead:
        ahead.start("a")
        with pytest.raises(kind):
            ahead.take("a", past)
        assert stopped.is_set(), "the reader is idle again"
        assert ahead.take("a", Watch()) is None


class Slow(FakeRunner):
    """A runner that opens when it may."""

    def __init__(self, may: Event, closed: list[str]) -> None:
        super().__init__(lambda inputs: {"out": inputs["image"]}, "slow")
        self.may, self.closed = may, closed

    def __enter__(self) -> "Slow":
        if not self.may.wait(10):
            raise MemoryError
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.append("slow")


def test_a_runner_starts_beside_what_else_is_done_and_is_closed_with_the_rest() -> None:
    may, closed = Event(), []
    with Starting() as starting:
        runner = starting.start(lambda: Slow(may, closed))
        may.set()  # reached although the runner is not open yet
        assert runner.infer({"image": 1}) == {"out": 1}
        assert (runner.describe().artefact, runner.at_once) == ("slow", 1)
    assert closed == ["slow"]


def test_a_runner_that_does_not_start_says_so_to_whoever_asks() -> None:
    def broken() -> Runner:
        raise Refusal("TOO_LARGE", "no room")

    with Starting() as starting:
        runner = starting.start(broken)
        for _ in range(2):
            with pytest.raises(Refusal, match="no room"):
                runner.infer({})
