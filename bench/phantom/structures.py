"""Codes of the synthetic head: what a voxel is made of, and which named structure it belongs to.

Two label volumes describe a head. `Tissue` decides the MR signal; `Structure` is the
anatomy the T category is decided on, unsided (the side is the sign of x in the head's
own frame: L is +x in LPS). Both stay as they were *under* a tumour, which is a layer of
its own.
"""

from enum import IntEnum


class Tissue(IntEnum):
    """What a voxel is made of; the key into the table of T1, T2 and proton density."""

    AIR = 0
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    FATTY_MARROW = 4
    RED_MARROW = 5
    CORTICAL_BONE = 6
    GREY_MATTER = 7
    WHITE_MATTER = 8
    CSF = 9
    MUCOSA = 10
    LYMPHOID = 11
    GLAND = 12
    NODE = 13
    FLUID = 14
    VITREOUS = 15
    FLOWING_BLOOD = 16
    NERVE = 17
    SCLEROSIS = 18
    CARTILAGE = 19
    VENOUS_BLOOD = 20


class Structure(IntEnum):
    """Named anatomy, unsided; the names are those the staging rules use."""

    BACKGROUND = 0
    NASOPHARYNX = 1
    OROPHARYNX = 2
    NASAL_CAVITY = 3
    PARAPHARYNGEAL_SPACE = 4
    CAROTID_SPACE = 5
    MEDIAL_PTERYGOID = 6
    LATERAL_PTERYGOID = 7
    PREVERTEBRAL_MUSCLE = 8
    CLIVUS = 9
    PTERYGOID_PROCESS = 10
    PTERYGOPALATINE_FOSSA = 11
    PETROUS_APEX = 12
    FORAMINA = 13
    CERVICAL_VERTEBRA = 14
    SPHENOID_SINUS = 15
    ETHMOID_SINUS = 16
    MAXILLARY_SINUS = 17
    CAVERNOUS_SINUS = 18
    INTRACRANIAL = 19
    ORBIT = 20
    INFERIOR_ORBITAL_FISSURE = 21
    PAROTID = 22
    HYPOPHARYNX = 23
    RETROPHARYNGEAL_NODE = 24


PAIRED = frozenset(
    {
        Structure.PARAPHARYNGEAL_SPACE,
        Structure.CAROTID_SPACE,
        Structure.MEDIAL_PTERYGOID,
        Structure.LATERAL_PTERYGOID,
        Structure.PREVERTEBRAL_MUSCLE,
        Structure.PTERYGOID_PROCESS,
        Structure.PTERYGOPALATINE_FOSSA,
        Structure.PETROUS_APEX,
        Structure.FORAMINA,
        Structure.MAXILLARY_SINUS,
        Structure.CAVERNOUS_SINUS,
        Structure.ORBIT,
        Structure.INFERIOR_ORBITAL_FISSURE,
        Structure.PAROTID,
        Structure.RETROPHARYNGEAL_NODE,
    }
)
"""Structures that exist once a side; the others are midline."""
