"""What the report is made from: frozen values, so that how a number came about and how it looks stay apart.

Times are UTC, milliseconds since 1970. Arrays of a value have one length; NaN stands for "not measured".
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.record import Level
from npc_edge.calibration.watch.estimate import Estimate

Floats = NDArray[np.float64]
Times = NDArray[np.int64]


@dataclass(frozen=True)
class Overview:
    """What the monitor holds. watchers: how many could have alarmed by now, quiet ones too.

    refused: reason code → runs. recorded: runs ever recorded, also those that retention has removed since;
    None where nobody counted. view: the options it was made with, as typed; None: its alarms are nobody's to
    acknowledge, as those about phantoms.
    """

    made_at: int
    runs: int
    refused: int
    with_truth: int
    npc: int
    not_npc: int
    watchers: int
    first_at: int | None = None
    last_at: int | None = None
    bundles: tuple[str, ...] = ()
    artefacts: tuple[str, ...] = ()
    reasons: tuple[tuple[str, int], ...] = ()
    recorded: int | None = None
    view: str | None = ""


@dataclass(frozen=True)
class Measure:
    """A named estimate. meaning: one short sentence. target: what a perfect model has, None without one."""

    name: str
    estimate: Estimate | None
    meaning: str = ""
    target: float | None = None


@dataclass(frozen=True, eq=False)
class Watch:
    """What a watcher made of a quantity. path (N,): its statistic over limit: beyond ±1 it is an alarm.

    method: "CUSUM" or "EWMA". watch: where "watch" begins on that scale. change: index of the estimated
    change, None without one.
    """

    method: str
    path: Floats
    watch: float
    level: Level = "quiet"
    change: int | None = None


@dataclass(frozen=True, eq=False)
class Trend:
    """One quantity over time, ascending. at, values (N,). reference: how many of the first cases are the
    baseline. share: values are 0 or 1 and shown as a share. words: one sentence, "" without one."""

    title: str
    unit: str
    at: Times
    values: Floats
    reference: int = 0
    watch: Watch | None = None
    words: str = ""
    share: bool = False


@dataclass(frozen=True, eq=False)
class Reliability:
    """How predicted probability and observed share of NPC go together, for one artefact.

    predicted, observed, low, high (K,): the smooth curve with its 95 % band, predicted ascending in 0..1.
    npc, not_npc (B,): how many cases of either kind fall in each of B equal parts of 0..1.
    """

    artefact: str
    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    npc: NDArray[np.int64]
    not_npc: NDArray[np.int64]
    measures: tuple[Measure, ...] = ()
    warning: str = ""


@dataclass(frozen=True)
class GroupRow:
    """One group of cases: a site, a vendor. estimates: in the order of the measures; None: too few cases.

    warning: what its number of cases does not allow.
    """

    name: str
    runs: int
    refused: int
    npc: int
    not_npc: int
    estimates: tuple[Estimate | None, ...] = ()
    warning: str = ""


@dataclass(frozen=True)
class Grouping:
    """Cases split one way: by vendor, say."""

    title: str
    rows: tuple[GroupRow, ...]


@dataclass(frozen=True)
class Groups:
    """The same measures of all cases and of every group. measures: their names; the first one is drawn."""

    measures: tuple[str, ...]
    overall: GroupRow
    groupings: tuple[Grouping, ...]


@dataclass(frozen=True, eq=False)
class Confusion:
    """Categories against the truth. counts (R, C): rows the truth, columns what we said."""

    title: str
    truth: tuple[str, ...]
    said: tuple[str, ...]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class AgreementRow:
    """One group's agreement with the truth, None where nothing is known: share of equal T categories, share
    of criteria that agree, share of reviewed masks accepted, mean Dice of corrected masks."""

    name: str
    category: Estimate | None
    criteria: Estimate | None
    accepted: Estimate | None
    dice: Estimate | None


@dataclass(frozen=True, eq=False)
class Agreement:
    """What the labels say beyond NPC or not. groups: the same by scanner, vendor and so on."""

    confusions: tuple[Confusion, ...] = ()
    criteria: tuple[Measure, ...] = ()
    reviews: tuple[tuple[str, int], ...] = ()
    dice: Measure | None = None
    groups: tuple[AgreementRow, ...] = ()


@dataclass(frozen=True, eq=False)
class Content:
    """Everything the report shows besides alarms. not_assessed: one sentence each."""

    overview: Overview
    headline_measures: tuple[Measure, ...] = ()
    trends: tuple[Trend, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    groups: Groups | None = None
    agreement: Agreement = field(default_factory=Agreement)
    not_assessed: tuple[str, ...] = ()
