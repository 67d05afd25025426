"""What a reason code means to the person in front of the console, and what they can do about it."""

from __future__ import annotations

REASONS: dict[str, tuple[str, str]] = {
    "NO_MR": ("There are no MR images in what was given.", "Check the folder: is it the right study?"),
    "NO_T1": (
        "No T1-weighted series without contrast agent was recognised.",
        "See the series table below; a missing or renamed series can be sent again.",
    ),
    "NO_T2": (
        "No T2-weighted series was recognised.",
        "See the series table below; a missing or renamed series can be sent again.",
    ),
    "NO_T1C": (
        "This bundle needs a contrast-enhanced T1-weighted series, and none was recognised.",
        "Use a bundle for non-contrast MRI, or send the series.",
    ),
    "CONTRAST_ONLY": (
        "Every T1-weighted series was acquired after contrast agent, or may have been.",
        "This bundle reads non-contrast MRI: send the T1-weighted series from before the injection.",
    ),
    "CONTRAST_UNKNOWN": (
        "Whether the T1-weighted series was acquired before contrast agent cannot be told.",
        "Send the whole study, so that times and other series can settle it.",
    ),
    "NO_ADC": (
        "This bundle needs an ADC map, and none was recognised.",
        "Send the map, or use a bundle that does without.",
    ),
    "MIXED_MATRIX": (
        "Slices of different matrix size or pixel spacing are mixed in one series.",
        "Send the series as it was acquired.",
    ),
    "MULTIPLE_PATIENTS": (
        "The images belong to more than one patient.",
        "Separate the patients and run each study alone.",
    ),
    "MULTIPLE_STUDIES": ("The images belong to more than one study.", "Run each study alone."),
    "CONTEXT_NOT_SUPPORTED": (
        "The bundle was not made for a patient in this context (for example after treatment).",
        "After treatment, signal change persists for years; read the study without this tool.",
    ),
    "POPULATION_MISMATCH": (
        "The patient is outside the population the bundle was made for.",
        "Read the study without this tool.",
    ),
    "UNREADABLE": (
        "Images that are needed could not be read.",
        "Export the study again; check that the transfer completed.",
    ),
    "MISSING_SLICES": (
        "A series that is needed has gaps between its slices.",
        "Send the series again: slices were lost on the way.",
    ),
    "DUPLICATE_SLICES": (
        "A series that is needed has two images in the same place.",
        "Check whether the series was sent or reconstructed twice; keep one.",
    ),
    "MIXED_ORIENTATION": (
        "A series that is needed mixes slices of different directions.",
        "Send the single-plane series instead.",
    ),
    "MOSAIC": (
        "The images are stored as mosaics, several slices in one picture.",
        "Export the series from the scanner as single slices or as enhanced MR.",
    ),
    "NON_UNIFORM_SPACING": (
        "The slices of a series that is needed are not evenly spaced.",
        "Check for lost slices, or for two stacks in one series.",
    ),
    "TOO_FEW_SLICES": (
        "A series that is needed has too few slices to be read as a volume.",
        "Check that the whole series arrived.",
    ),
    "GEOMETRY_MISMATCH": (
        "The sequences do not lie on each other closely enough, and could not be brought together.",
        "The patient may have moved between them; look at both series.",
    ),
    "FOV_TRUNCATED": (
        "The nasopharynx and its surroundings are not fully inside the images.",
        "Use a series that covers the skull base to the oropharynx.",
    ),
    "OUT_OF_DOMAIN": (
        "The images do not look like what the bundle was made from.",
        "Read the study without this tool; the quality lines below say what differs.",
    ),
    "TOO_LARGE": ("The study is larger than this tool accepts.", "Give only the series that matter."),
    "HOSTILE_FILE": (
        "A file is malformed in a way that could harm a reader, and was not opened.",
        "Find out where the file comes from before opening it elsewhere.",
    ),
    "DEADLINE": (
        "The run did not finish in the time it was given.",
        "Allow more time with --deadline, or run it on a faster machine.",
    ),
}


def explain(code: str) -> tuple[str, str]:
    """(what it means, what to do) for a code; general words for one that is not listed."""
    return REASONS.get(code, ("The study does not meet a condition for a result.", "See the message above."))
