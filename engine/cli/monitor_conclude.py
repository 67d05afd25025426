"""What the watching commands of `npc-edge monitor` share: their options, and what is concluded under them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from npc_edge.engine.errors import UsageError

if TYPE_CHECKING:
    from npc_edge.calibration.alarms import Alarm
    from npc_edge.calibration.record import CaseRecord, Verdict
    from npc_edge.calibration.report.values import Content
    from npc_edge.calibration.store import Store
    from npc_edge.calibration.watch import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """What an operator decides about the watchers."""

    phantoms: bool = False
    rate: float = 0.05
    baseline: int = 250
    since: str | None = None

    @property
    def view(self) -> str:
        """The options that differ from the usual, as they are typed: acknowledgements belong to them."""
        usual = Choice()
        words = []
        if self.rate != usual.rate:
            words.append(f"--false-alarm-rate {self.rate:g}")
        if self.baseline != usual.baseline:
            words.append(f"--baseline {self.baseline}")
        if self.since is not None:
            words.append(f"--since {self.since}")
        return " ".join(words)


def _options(
    phantoms: Annotated[
        bool, typer.Option("--phantoms", help="Look at runs of phantoms instead of patients: never together.")
    ] = False,
    false_alarm_rate: Annotated[
        float, typer.Option(help="The chance of a false alarm within 1,000 cases; the limits follow from it.")
    ] = 0.05,
    baseline: Annotated[int, typer.Option(help="How many of the first cases say what is normal.")] = 250,
    since: Annotated[
        str | None, typer.Option(help="YYYY-MM-DD: leave out older runs, as after a change meant to stay.")
    ] = None,
) -> Choice:
    return Choice(phantoms, false_alarm_rate, baseline, since)


def watching(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the options of `Choice`; it takes them as one value, `choice`, its first parameter."""
    options = inspect.signature(_options, eval_str=True).parameters
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    @wraps(command)
    def called(**given: object) -> T:
        chosen = {name: given.pop(name) for name in options}
        return command(_options(**chosen), **given)  # type: ignore[arg-type]

    both = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *options.values())]
    called.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in both}
    return called


@dataclass(frozen=True, eq=False)
class Conclusion:
    """What is concluded of a store at a moment. verdicts: all; alarms: those that are not quiet."""

    content: Content
    verdicts: tuple[Verdict, ...]
    alarms: tuple[Alarm, ...]


def conclude(store: Store, choice: Choice, now: int) -> Conclusion:
    """Watch all runs of patients (or of phantoms), and end the acknowledgements that hold no longer."""
    from npc_edge.calibration.alarms import open_alarms, over
    from npc_edge.calibration.report.gather import content_of
    from npc_edge.calibration.watch import watched

    records = [r for r in store.records() if r.quality_control == choice.phantoms]
    settings = _settings(records, choice)
    found = watched(records, store.truths(), settings, store.aliases())
    # Acknowledgements are of alarms about patients; phantoms have none. Those of other options are another
    # view's: its verdicts alone can end them.
    every = () if choice.phantoms else store.acknowledgements()
    seen = [item for item in every if item.view == choice.view]
    ended = over(found.verdicts, seen, now)
    if ended:
        store.end(ended, now)
    alarms = open_alarms(found.verdicts, [item for item in seen if item not in ended], now)
    content = content_of(records, found, settings, now)
    overview = dataclasses.replace(
        content.overview,
        recorded=store.counts().recorded,
        view=None if choice.phantoms else choice.view,
    )
    return Conclusion(dataclasses.replace(content, overview=overview), found.verdicts, alarms)


def _settings(records: list[CaseRecord], choice: Choice) -> Settings:
    """The operator's choice, and the operating point the newest result was judged by."""
    from datetime import UTC, datetime

    from npc_edge.calibration.watch import Settings

    start = 0
    if choice.since is not None:
        try:
            start = round(datetime.fromisoformat(choice.since).replace(tzinfo=UTC).timestamp() * 1000)
        except ValueError:
            raise UsageError("--since is YYYY-MM-DD") from None
    point = next((r.operating_point for r in reversed(records) if r.operating_point), {})
    usual = Settings()
    try:
        return Settings(
            false_alarm_rate=choice.rate,
            watch_rate=max(usual.watch_rate, min(0.99, 2 * choice.rate)),
            baseline=choice.baseline,
            start=start,
            threshold=point.get("threshold", usual.threshold),
            sensitivity=point.get("sensitivity"),
            specificity=point.get("specificity"),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
