"""Each vendor's words: models, series descriptions, sequence names, options and image types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from npc_edge.bench.phantom.signal import FatSuppression

Vendor = Literal["siemens", "ge", "philips", "uih"]


@dataclass(frozen=True)
class Habits:
    """A vendor's words. Descriptions are alternatives, one of them drawn; {} none."""

    manufacturer: str
    models: tuple[tuple[str, float], ...]
    software: str
    localizer: tuple[str, ...]
    t1: tuple[str, ...]
    t2: tuple[str, ...]
    t2_suppressed: dict[FatSuppression, tuple[str, ...]]
    t1c: tuple[str, ...]
    t1c_suppressed: tuple[str, ...]
    sequence_name: str
    options_suppressed: tuple[str, ...]
    image_type: tuple[str, ...]


VENDORS: dict[Vendor, Habits] = {
    "siemens": Habits(
        "SIEMENS",
        (("Avanto", 1.5), ("Aera", 1.5), ("Skyra", 3.0), ("Prisma", 3.0)),
        "syngo MR E11",
        ("localizer", "AAHead_Scout", "localizer_3plane"),
        ("t1_tse_tra", "T1_TSE_TRA_320", "t1_tse_tra_p2"),
        ("t2_tse_tra", "T2_TSE_TRA_384", "t2_tse_tra_p2"),
        {
            "spectral": ("t2_tse_fs_tra", "t2_tse_tra_fs_p2"),
            "stir": ("t2_tirm_tra", "t2_tirm_tra_dark-fat"),
            "dixon_water": ("t2_tse_dixon_tra_W",),
        },
        ("t1_tse_tra_gd", "t1_tse_tra+c"),
        ("t1_tse_fs_tra_gd", "t1_tse_tra_fs_+c"),
        "*tse2d1_{}",
        ("PFP", "FS"),
        ("ORIGINAL", "PRIMARY", "M", "ND", "NORM"),
    ),
    "ge": Habits(
        "GE MEDICAL SYSTEMS",
        (("SIGNA HDxt", 1.5), ("Optima MR450w", 1.5), ("DISCOVERY MR750", 3.0), ("SIGNA Architect", 3.0)),
        "27\\LX\\MR Software release:DV26.0_R05",
        ("3-pl Loc", "3 Plane Loc SSFSE"),
        ("Ax T1 FSE", "AX T1", "OAx T1 FSE"),
        ("Ax T2 FSE", "Ax T2 FRFSE", "AX T2 PROPELLER"),
        {
            "spectral": ("Ax T2 FSE FS", "AX fs T2 FRFSE"),
            "stir": ("Ax STIR", "Ax STIR FSE"),
            "dixon_water": ("WATER: Ax T2 FSE IDEAL", "WATER: AX T2 Flex"),
        },
        ("Ax T1 FSE +C", "AX T1+C"),
        ("Ax T1 FSE FS +C", "AX fs T1 +C"),
        "",
        ("FAST_GEMS", "FS"),
        ("ORIGINAL", "PRIMARY", "OTHER"),
    ),
    "philips": Habits(
        "Philips Medical Systems",
        (("Achieva", 1.5), ("Ingenia", 1.5), ("Ingenia Elition X", 3.0), ("Achieva dStream", 3.0)),
        "5.6.1\\5.6.1.1",
        ("Survey", "SURVEY_32ch_HeadCoil"),
        ("T1W_TSE", "T1W_TSE_TRA", "sT1W_TSE"),
        ("T2W_TSE", "T2W_TSE_TRA", "sT2W_TSE_HR"),
        {
            "spectral": ("T2W_TSE_SPAIR", "T2W_SPIR", "sT2W_TSE_SPAIR_TRA"),
            "stir": ("STIR_TSE_TRA", "STIR_longTE"),
            "dixon_water": ("T2W_mDIXON_TSE_W",),
        },
        ("T1W_TSE_TRA+C", "T1W_TSE_Gd"),
        ("T1W_TSE_SPIR+C", "sT1W_TSE_SPAIR_Gd"),
        "TSE",
        ("OTHER", "FS"),
        ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"),
    ),
    "uih": Habits(
        "UIH",
        (("uMR 588", 1.5), ("uMR 560", 1.5), ("uMR 780", 3.0), ("uMR 790", 3.0)),
        "V9.0.1",
        ("localizer", "scout_3plane"),
        ("t1_fse_tra", "t1_fse_tra_nasopharynx"),
        ("t2_fse_tra", "t2_arms_fse_tra"),
        {
            "spectral": ("t2_fse_tra_fs", "t2_fse_fs_tra"),
            "stir": ("t2_fse_stir_tra",),
            "dixon_water": ("t2_fse_wfi_tra_W",),
        },
        ("t1_fse_tra+c", "t1_fse_tra_gd"),
        ("t1_fse_tra_fs+c", "t1_fse_fs_tra_gd"),
        "fse_mx",
        ("FS",),
        ("ORIGINAL", "PRIMARY", "M"),
    ),
}
