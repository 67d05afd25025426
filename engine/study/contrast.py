"""Was a T1-like series acquired before or after a contrast agent? Unknown is not pre.

Evidence, strongest first: the series' own name; its agent tag, settled by acquisition time against injection
time because technologists leave it set from the start; the time of a series that is surely post; the same
geometry acquired again later. A study without any hint of contrast counts as pre with low confidence: routine
non-contrast protocols say nothing at all. A fat-suppressed T1 without any statement stays unknown, because
that is what a contrast-enhanced T1 is usually acquired as.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from npc_edge.engine.types import Contrast, Series, State3

_PRE = re.compile(
    r"\b(pre ?(contrast|gd|c)?|native?|unenhanced|plain)\b|平扫|增强前"
    r"|\b(non|no|without|w o|wo) ?(contrast|gd|gad\w*|con|ce)\b"
)
_POST = re.compile(
    r"\+ ?(c|gd|gad\w*|cm|km|ce|contrast)\b|\bc ?\+"
    r"|\b(gd|gad|gado\w*|t1 ?ce|t1c|ce ?t1\w*|ce|km|contrast|enhanced?)\b"
    r"|\bpost(?! ?(op|rt|crt|radio|chemo|treat|surg))(gd|contrast|c)?\b|增强|强化|注药"
)
_NO_AGENT = re.compile(r"(none|no|n|nil|0|na|n ?a|not applicable|without|-*)?", re.IGNORECASE)

Verdict = tuple[Contrast, float, str]
"""(contrast, confidence factor 0..1, evidence in words)."""


@dataclass(frozen=True)
class Candidate:
    """One T1-like series. text: as in `rules.Facts`. place: shared by series with the same geometry."""

    series: Series
    text: str
    fat_suppression: State3
    place: int

    @property
    def agent(self) -> bool:
        return _NO_AGENT.fullmatch(self.series.acquisition.contrast_agent.strip()) is None

    @property
    def time(self) -> float | None:
        return self.series.acquisition.time_s


def says(text: str) -> Contrast:
    """What the words say: pre, post, or unknown (nothing, or both)."""
    rest, pre = _PRE.subn(" ", text)
    post = _POST.search(rest) is not None
    return "unknown" if bool(pre) == post else "pre" if pre else "post"


def decide(candidates: Sequence[Candidate]) -> list[Verdict]:
    """A verdict on every candidate, in their order."""
    alone = [_alone(c) for c in candidates]
    starts = [
        c.series.acquisition.contrast_start_s
        for c in candidates
        if c.agent and c.series.acquisition.contrast_start_s is not None
    ]
    posts = [
        c.time for c, v in zip(candidates, alone, strict=True) if v and v[0] == "post" and c.time is not None
    ]
    any_post = any(v and v[0] == "post" for v in alone)
    given = min(starts + posts, default=None)
    return [
        verdict or _in_company(candidate, candidates, given, any_post)
        for candidate, verdict in zip(candidates, alone, strict=True)
    ]


def _alone(candidate: Candidate) -> Verdict | None:
    """What the series says of itself; None when it says nothing."""
    a, named = candidate.series.acquisition, says(candidate.text)
    if candidate.agent and a.time_s is not None and a.contrast_start_s is not None:
        if a.time_s >= a.contrast_start_s:
            return "post", 1.0, "acquired after the contrast agent was given"
        if named == "post":
            return "unknown", 0.5, "named contrast-enhanced but acquired before the agent was given"
        return "pre", 0.95, "acquired before the contrast agent was given; its agent tag is stale"
    if named == "post":
        return "post", 1.0, "named contrast-enhanced"
    if named == "pre":
        return "pre", 0.7 if candidate.agent else 1.0, "named pre-contrast"
    if candidate.agent:
        return "post", 0.8, "a contrast agent is recorded"
    return None


def _in_company(
    candidate: Candidate, candidates: Sequence[Candidate], given: float | None, any_post: bool
) -> Verdict:
    """What the other series say of one that says nothing of itself."""
    if given is not None and candidate.time is not None:
        if candidate.time >= given:
            return "post", 0.8, "acquired after a contrast-enhanced series"
        return "pre", 0.95, "acquired before every contrast-enhanced series"
    if any_post:
        return "pre", 0.8, "no agent recorded, while another series is marked contrast-enhanced"
    twins = [c for c in candidates if c is not candidate and c.place == candidate.place]
    times = [c.time for c in twins if c.time is not None]
    if times and candidate.time is not None and len(times) == len(twins):
        if candidate.time > min(times):
            return "unknown", 0.5, "the same slices acquired again later, which is what follows an injection"
        return "pre", 0.85, "the same slices were acquired again later"
    if twins:
        return "unknown", 0.5, "the same slices were acquired twice at unknown times"
    if candidate.fat_suppression == "yes":
        return "unknown", 0.5, "fat-suppressed T1 that does not say whether contrast was given"
    return "pre", 0.85, "nothing in the study speaks of contrast"
