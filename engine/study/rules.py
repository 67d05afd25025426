"""What a series is, by an ordered table of rules over its header: the first rule that fires names it.

The order is the point: what only looks like T1 or T2 (localizers, derived images, angiography, diffusion) is
named before T1 and T2 are asked for. Numbers: TR, TE, TI in ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from npc_edge.engine.types import Series, State3

Found = tuple[float, str] | None
"""(confidence, evidence in words), or None when the rule does not fire."""


@dataclass(frozen=True)
class Facts:
    """What the rules look at. text: description, protocol and sequence name in lower case, words apart."""

    text: str
    image_type: frozenset[str]
    sequence: frozenset[str]
    options: frozenset[str]
    te: float | None
    tr: float | None
    ti: float | None
    b_value: float  # largest of the whole series, its other stacks too; 0 when none is stated
    planes: tuple[int, ...]  # frames in each of the planes (within 45 degrees) the series has
    phases: int  # temporal positions
    enhanced_contrast: str
    steady_state: bool

    def says(self, pattern: str) -> str:
        """The words of the text that match, or ''."""
        found = re.search(pattern, self.text)
        return found[0].strip() if found else ""

    @property
    def spin_echo(self) -> bool:
        """Spin echo, or nothing said against it."""
        return "SE" in self.sequence or not self.sequence & {"GR", "EP"}

    @property
    def gradient_echo(self) -> bool:
        return "GR" in self.sequence and "SE" not in self.sequence


def facts_of(series: Series, siblings: tuple[Series, ...]) -> Facts:
    """siblings: every stack of the same DICOM series, this one too."""
    a = series.acquisition
    phases = {f.temporal_position for s in siblings for f in s.frames if f.temporal_position is not None}
    return Facts(
        text=words(" ".join((a.description, a.protocol, a.sequence_name))),
        image_type=frozenset(w for value in a.image_type for w in (value, *value.split("_"))),
        sequence=frozenset(a.sequence),
        options=frozenset(a.scan_options),
        te=a.echo_time_ms,
        tr=a.repetition_time_ms,
        ti=a.inversion_time_ms or None,
        b_value=max((f.b_value or 0.0 for s in siblings for f in s.frames), default=0.0),
        planes=_planes(series),
        phases=len(phases),
        enhanced_contrast=a.enhanced_contrast,
        steady_state="SS" in a.variant and "SP" not in a.variant,
    )


def words(text: str) -> str:
    """Lower case, separators to blanks, `+` kept; letters and CJK characters parted."""
    lowered = re.sub(r"[^0-9a-z+\u4e00-\u9fff]+", " ", text.lower())
    return re.sub(r"([\u4e00-\u9fff]+)", r" \1 ", lowered)


def _planes(series: Series) -> tuple[int, ...]:
    counts: dict[int, int] = {}
    for frame in series.frames:
        if frame.row is not None and frame.column is not None:
            r, c = frame.row, frame.column
            normal = (r[1] * c[2] - r[2] * c[1], r[2] * c[0] - r[0] * c[2], r[0] * c[1] - r[1] * c[0])
            axis = max(range(3), key=lambda i: abs(normal[i]))
            counts[axis] = counts.get(axis, 0) + 1
    return tuple(counts.values())


# --- one function a kind ----------------------------------------------------------------------------------


def _localizer(f: Facts) -> Found:
    if "LOCALIZER" in f.image_type:
        return 0.99, "ImageType says localizer"
    if word := f.says(r"\b(loc|localiser|localizer|scout|survey|3 ?plane|3 ?pl|aahead\w*)\b|定位|三平面"):
        return 0.95, f"named “{word}”"
    if len(f.planes) > 1 and max(f.planes) < 8:
        return 0.9, "a few slices in several planes"
    return None


def _derived(f: Facts) -> Found:
    marks = f.image_type & {
        "SUBTRACT",
        "SUBTRACTION",
        "SUB",
        "MIP",
        "MPR",
        "PROJECTION",
        "SCREEN",
        "REFORMATTED",
    }
    marks |= f.image_type & {"PHASE", "P", "REAL", "IMAGINARY", "I", "R", "FF", "FRACTION"}
    if marks:
        return 0.95, f"ImageType says {', '.join(sorted(marks)).lower()}"
    if f.image_type & {"DERIVED", "SECONDARY"} and not dixon(f) and "ADC" not in f.image_type:
        return 0.9, "ImageType says it was computed from other images"
    if word := f.says(r"\b(sub|subtract\w*|mip|mpr|reformat\w*|composed|screen ?save|phase map)\b|减影|重建"):
        return 0.9, f"named “{word}”"
    return None


def _angiography(f: Facts) -> Found:
    if word := f.says(r"\b(tof\w*|mra|mrv|angio\w*|pc ?3d|inhance)\b|血管"):
        return 0.95, f"named “{word}”"
    return (0.95, "AcquisitionContrast says time of flight") if f.enhanced_contrast == "TOF" else None


def _dynamic(f: Facts) -> Found:
    pattern = r"\b(dyn\w*|dce|perf\w*|pwi|twist|tricks|ktwist|grasp|cine|bold|fmri|asl|dsc)\b|动态|灌注"
    if word := f.says(pattern):
        return 0.95, f"named “{word}”"
    if f.enhanced_contrast == "PERFUSION":
        return 0.95, "AcquisitionContrast says perfusion"
    return (0.9, f"{f.phases} phases in time") if f.phases > 1 else None


def _special(f: Facts) -> Found:
    pattern = (
        r"\b(mp2rage|field ?map\w*|b1 ?map\w*|swi|swan|venbold|qsm|mapit|t[12] ?map\w*|relax\w*|fgatir)\b"
    )
    if word := f.says(pattern):
        return 0.95, f"named “{word}”"
    word = f.says(r"\b(trufi|true ?fisp|fiesta\w*|ciss|b ?ffe|btfe|bssfp|drive ?balanced)\b")
    if word or (f.steady_state and f.gradient_echo):
        return 0.9, f"balanced steady state{f' (named “{word}”)' if word else ''}"
    return None


def _adc(f: Facts) -> Found:
    if "ADC" in f.image_type or "EADC" in f.image_type:
        return 0.97, "ImageType says ADC"
    if word := f.says(r"\b(e?adc\w*|apparent diffusion)\b|表观"):
        return 0.95, f"named “{word}”"
    return None


def _diffusion(f: Facts) -> Found:
    if f.b_value > 0:
        return 0.97, f"b-value {f.b_value:g} s/mm²"
    if f.image_type & {"DIFFUSION", "TRACEW", "TRACE"} or f.enhanced_contrast == "DIFFUSION":
        return 0.95, "the header says diffusion"
    pattern = r"\b(\w*dwi\w*|diff\w*|dti|trace\w*|resolve|zoomit|b ?\d{2,4}|ep2d\w*)\b|弥散|扩散"
    if word := f.says(pattern):
        return 0.9, f"named “{word}”"
    return (0.85, "echo planar") if "EP" in f.sequence else None


def _stir(f: Facts) -> Found:
    word = f.says(r"\b(\w*stir|tirm|dark ?fat)\b")
    inversion = "IR" in f.sequence or f.ti is not None
    if inversion and f.ti is not None and 100 <= f.ti <= 260 and not f.gradient_echo:
        return 0.95 if word else 0.85, f"inversion recovery, TI {f.ti:g}"
    if f.enhanced_contrast == "STIR":
        return 0.9, "AcquisitionContrast says STIR"
    return (0.7, f"named “{word}”") if word and f.ti is None else None


def _t1_flair(f: Facts) -> Found:
    if f.gradient_echo:
        return None
    if "IR" in f.sequence and f.ti is not None and 500 <= f.ti <= 1200:
        return 0.85, f"inversion recovery, TI {f.ti:g}"
    if f.says(r"\bt1w?i?\b") and (word := f.says(r"\b\w*flair\b")) and (f.ti is None or f.ti <= 1200):
        return 0.75, f"named “t1 {word}”"
    return None


def _flair(f: Facts) -> Found:
    if f.ti is not None and f.ti > 1500 and not f.gradient_echo:
        return 0.9, f"TI {f.ti:g}"
    if f.enhanced_contrast == "FLUID_ATTENUATED":
        return 0.9, "AcquisitionContrast says fluid attenuated"
    word = f.says(r"\b(\w*flair\w*|dark ?fluid)\b|水抑制")
    return (0.9, f"named “{word}”") if word else None


_SAYS_T2 = r"(?<![a-z0-9])s?t2(?![0-9])"
_SAYS_T1 = r"(?<![a-z0-9])s?t1(?![0-9])"


def _t2(f: Facts) -> Found:
    named = bool(f.says(_SAYS_T2)) or f.enhanced_contrast == "T2"
    other = bool(f.says(_SAYS_T1)) or f.enhanced_contrast == "T1"
    if f.te is None and f.tr is None:
        return (0.55, "named T2; no echo time") if named and not other and f.spin_echo else None
    if not f.spin_echo or f.te is None or f.te < 60:
        return None
    numbers = f"spin echo, TE {f.te:g}" + (f", TR {f.tr:g}" if f.tr else "")
    if f.tr is not None and f.tr >= 1800:
        return _weighed(numbers, named, other, "T2")
    return (0.6, f"{numbers}; named T2") if named and not other else None


def _t1(f: Facts) -> Found:
    named = bool(f.says(_SAYS_T1)) or f.enhanced_contrast == "T1"
    other = bool(f.says(_SAYS_T2)) or f.enhanced_contrast == "T2"
    if f.te is None and f.tr is None:
        return (0.55, "named T1; no echo time") if named and not other else None
    if f.te is None:
        return None
    if f.gradient_echo:
        named = named or bool(f.says(r"\b(vibe|lava|thrive|flash\w*|f?spgr|mp ?rage|bravo|tfe|fl[23]d\w*)\b"))
        return _weighed(f"gradient echo, TE {f.te:g}", named, other, "T1") if f.te <= 6 else None
    if f.spin_echo and f.te <= 30 and f.tr is not None and f.tr <= 1200:
        return _weighed(f"spin echo, TE {f.te:g}, TR {f.tr:g}", named, other, "T1")
    return None


def _weighed(numbers: str, named: bool, other: bool, what: str) -> Found:
    """Header numbers weighed against the name: agreeing, silent, or contradicting."""
    if named and not other:
        return 0.95, f"{numbers}; named {what}"
    if other and not named:
        return 0.3, f"{numbers}, but named otherwise"
    return 0.75, numbers


RULES: tuple[tuple[str, Callable[[Facts], Found]], ...] = (
    ("localizer", _localizer),
    ("derived", _derived),
    ("angiography", _angiography),
    ("dynamic", _dynamic),
    ("special sequence", _special),
    ("ADC", _adc),
    ("DWI", _diffusion),
    ("STIR", _stir),
    ("T1-FLAIR", _t1_flair),
    ("FLAIR", _flair),
    ("T2", _t2),
    ("T1", _t1),
)


def kind_of(facts: Facts) -> tuple[str, float, str]:
    """(kind, confidence, evidence) by the first rule that fires."""
    for kind, rule in RULES:
        if (found := rule(facts)) is not None:
            return kind, *found
    return "other", 0.0, "no rule fits: neither T1 nor T2 by its echo and repetition times"


# --- fat ----------------------------------------------------------------------------------------------------


def dixon(f: Facts) -> str:
    """'water', 'fat', 'in', 'opposed', or '' when it is no Dixon image."""
    for component, marks in (
        ("water", {"W", "WATER"}),
        ("fat", {"F", "FAT"}),
        ("in", {"IP", "IN", "INPHASE"}),
        ("opposed", {"OP", "OPP", "OUT", "OUTPHASE", "OPPOSED"}),
    ):
        if f.image_type & marks:
            return component
    if f.says(r"\b(\w*dixon\w*|ideal|flex|wfi|iq)\b") or f.says(r"^ ?(water|fat|in ?phase|out ?phase)\b"):
        for component, pattern in (
            ("water", r"\b(water|w)\b"),
            ("fat", r"\b(fat|f)\b"),
            ("in", r"\b(in|ip|in ?phase)\b"),
            ("opposed", r"\b(opp|op|out|opp ?phase|out ?phase)\b"),
        ):
            if f.says(pattern):
                return component
    return ""


_NOT_SUPPRESSED = r"\b(no|non|without|w o|wo) ?(fs|fat ?sat|fat ?sup\w*)\b|不压脂"
_SUPPRESSED = (
    r"\b(t[12]w?)?fs(t[12]w?)?\b"
    r"|\b(\w*fat ?sat\w*|fat ?sup\w*|\w*spair|a?spir|chess|we|stir|tirm|dark ?fat)\b"
    r"|压脂|脂肪抑制"
)


def fat_suppression(f: Facts, kind: str) -> tuple[State3, str]:
    """(state, evidence). The absence of a word proves nothing: then it is unknown."""
    component = dixon(f)
    if component:
        state: State3 = "yes" if component == "water" else "no"
        return state, f"Dixon {component} image"
    if kind == "STIR":
        return "yes", "STIR suppresses fat"
    if word := f.says(_NOT_SUPPRESSED):
        return "no", f"named “{word}”"
    if f.options & {"FS", "FAT_SAT", "FATSAT", "SPIR", "SPAIR", "WE"}:
        return "yes", "ScanOptions says fat suppression"
    if "NO_FS" in f.options:
        return "no", "no spectral suppression"
    if word := f.says(_SUPPRESSED):
        return "yes", f"named “{word}”"
    return "unknown", ""
