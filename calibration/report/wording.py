"""The sentences of the monitor's report: what may be said of a state, and of patients' data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from npc_edge.calibration.record import Level

RESEARCH = "RESEARCH USE ONLY"


def iso(at: int | None) -> str | None:
    """2026-05-12T08:30:00Z, UTC; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(at: int | None) -> str:
    """12 May 2026, UTC; "never" for None. Month names in English, whatever the machine's language."""
    if at is None:
        return "never"
    moment = datetime.fromtimestamp(at / 1000, UTC)
    return f"{moment.day} {MONTHS[moment.month - 1]} {moment.year}"


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

PSEUDONYMOUS = (
    "This page names no patient: beside what people typed as aliases and notes it holds no name, date of"
    " birth, patient id, accession number or UID, and no key of a case.",
    "What it was made from is pseudonymous, not anonymous. The monitor keeps one record a run under salted"
    " keys; whoever holds this machine's salt and an accession number can find that case's record, and the"
    " salt lies in the same state directory.",
    "Small numbers can point to a person for somebody who knows the department: a row with one case is one"
    " patient. Treat this page as patient data.",
    "Nothing was sent anywhere to make it, and it fetches nothing when opened.",
)


def headline(level: Level, alarms: int, acknowledged: int, watchers: int) -> str:
    """The state in one sentence. alarms: incidents nobody acknowledged; acknowledged: those somebody did."""
    if watchers == 0:
        return "No statement yet: there are too few cases to watch anything"
    if level == "act":
        return f"Act: {_things(alarms)} before the scores are relied on"
    if level == "watch":
        return f"Watch: {'something has' if alarms == 1 else f'{alarms} things have'} moved"
    if acknowledged:
        known = "one alarm is" if acknowledged == 1 else f"{acknowledged} alarms are"
        return f"Quiet: nothing new; {known} acknowledged and not over"
    return "Quiet: everything the monitor watches is within its limits"


def _things(alarms: int) -> str:
    return "one thing asks for a look" if alarms == 1 else f"{alarms} things ask for a look"


def percent(share: float) -> str:
    """0.024 → "2.4 %", 0.5 → "50 %"; the space does not break."""
    value = 100 * share
    digits = f"{value:.1f}" if 0 < abs(value) < 9.95 else f"{value:.0f}"
    return f"{digits.removesuffix('.0')}\u00a0%"


def count(number: int, one: str, many: str) -> str:
    """1 case, 1,200 cases."""
    return f"{number:,} {one if number == 1 else many}"


def group_name(group: str) -> str:
    """ "all" → "all cases", "vendor=ge" → "vendor ge"."""
    return "all cases" if group == "all" else group.replace("_", " ").replace("=", " ")


METHODS = {"cusum": "CUSUM", "ewma": "EWMA", "ks": "KS test", "mmd": "MMD test", "psi": "PSI"}


def watcher_name(watcher: str) -> str:
    """ "t2.median.cusum" → "t2.median, CUSUM": the last part is the method."""
    return watcher_names([watcher])


def watcher_names(watchers: Sequence[str]) -> str:
    """Watchers of one method: "CUSUM of score, t2.median"; a single one as "score, CUSUM"."""
    quantities = [watcher.rpartition(".")[0].replace("_", " ").replace("=", ": ") for watcher in watchers]
    method = watchers[0].rpartition(".")[2]
    name = METHODS.get(method, method.replace("_", " "))
    if len(watchers) == 1:
        return f"{quantities[0]}, {name}" if quantities[0] else name
    return f"{name} of {', '.join(quantities)}"
