"""Phantom studies whose identifying elements hold strings found nowhere else, and a search for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydicom import Dataset, dcmread

_PREFIX = "ZQXCANARY"
DATES = {
    "StudyDate": "19310217",
    "SeriesDate": "19310218",
    "AcquisitionDate": "19310219",
    "ContentDate": "19310220",
    "InstanceCreationDate": "19310221",
    "PatientBirthDate": "18890723",
}
PATIENT = {
    "PatientName": f"{_PREFIX}NAME^GIVEN",
    "PatientID": f"{_PREFIX}PID",
    "IssuerOfPatientID": f"{_PREFIX}ISSUER",
    "OtherPatientNames": f"{_PREFIX}OTHER",
    "PatientBirthName": f"{_PREFIX}BIRTH",
    "PatientMotherBirthName": f"{_PREFIX}MOTHER",
    "PatientAddress": f"{_PREFIX}STREET",
    "PatientTelephoneNumbers": f"{_PREFIX}PHONE",
    "MilitaryRank": f"{_PREFIX}RANK",
    "EthnicGroup": f"{_PREFIX}ETHNIC",
    "Occupation": f"{_PREFIX}JOB",
    "AdditionalPatientHistory": f"{_PREFIX}HISTORY",
    "PatientComments": f"{_PREFIX}COMMENTS",
    "AccessionNumber": f"{_PREFIX}ACC",
    "StudyID": f"{_PREFIX}STUDY",
    "StudyDescription": f"{_PREFIX} OF THE NECK",
    "ReferringPhysicianName": f"{_PREFIX}REFERRER",
    "PhysiciansOfRecord": f"{_PREFIX}RECORD",
    "NameOfPhysiciansReadingStudy": f"{_PREFIX}READER",
}
"""Of the patient's and the study's modules: the DICOM outputs carry them, nothing else does."""
DEVICE = {
    "InstitutionName": f"{_PREFIX}HOSPITAL",
    "InstitutionAddress": f"{_PREFIX}CITY",
    "InstitutionalDepartmentName": f"{_PREFIX}DEPT",
    "StationName": f"{_PREFIX}STATION",
    "ManufacturerModelName": f"{_PREFIX}MODEL",
    "DeviceSerialNumber": f"{_PREFIX}SERIAL",
    "PerformingPhysicianName": f"{_PREFIX}PERFORMER",
    "OperatorsName": f"{_PREFIX}OPERATOR",
    "RequestingPhysician": f"{_PREFIX}REQUESTER",
    "PerformedProcedureStepDescription": f"{_PREFIX}STEP",
    "PerformedProcedureStepID": f"{_PREFIX}PPS",
    "CurrentPatientLocation": f"{_PREFIX}WARD",
    "ImageComments": f"{_PREFIX}IMAGE",
    "RequestedProcedureDescription": f"{_PREFIX}ASKED",
}
UIDS = {
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.777001",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.777002",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.777003",
    "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.777004",
}
"""Beginnings; a number follows where one study has several."""


def mark(study: Path) -> None:
    """Write the strings into every object of a study, its series' descriptions and private elements too."""
    series: dict[str, str] = {}
    for number, path in enumerate(sorted(p for p in study.rglob("*") if p.is_file())):
        data = dcmread(path)
        for name, value in {**PATIENT, **DEVICE, **DATES}.items():
            setattr(data, name, value)
        data.SeriesDescription = f"{data.get('SeriesDescription', '')} {_PREFIX}DESC"
        data.ProtocolName = f"{data.get('ProtocolName', '')} {_PREFIX}PROT"
        data.StudyInstanceUID, data.FrameOfReferenceUID = (
            UIDS["StudyInstanceUID"],
            UIDS["FrameOfReferenceUID"],
        )
        place = len(series) + 1
        data.SeriesInstanceUID = series.setdefault(
            str(data.SeriesInstanceUID), f"{UIDS['SeriesInstanceUID']}.{place}"
        )
        data.SOPInstanceUID = f"{UIDS['SOPInstanceUID']}.{number}"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.file_meta.SourceApplicationEntityTitle = f"{_PREFIX}AE"
        _add_sequences(data)
        data.save_as(path, enforce_file_format=True)


def _add_sequences(data: Dataset) -> None:
    item = Dataset()
    item.PatientID = f"{_PREFIX}OTHERID"
    data.OtherPatientIDsSequence = [item]
    request = Dataset()
    request.AccessionNumber = f"{_PREFIX}NESTED"
    request.RequestedProcedureID = f"{_PREFIX}RPID"
    data.RequestAttributesSequence = [request]
    private = data.private_block(0x0099, f"{_PREFIX}PRIVATE", create=True)
    private.add_new(0x01, "LO", f"{_PREFIX}SECRET")


def strings() -> list[bytes]:
    """Everything that must not be found. A date also as people write it."""
    dates = [(d[:4], d[4:6], d[6:]) for d in DATES.values()]
    shapes = ("{0}{1}{2}", "{0}-{1}-{2}", "{2}.{1}.{0}", "{1}/{2}/{0}")
    written = [shape.format(*date) for date in dates for shape in shapes]
    return [text.encode() for text in (_PREFIX, *UIDS.values(), *written)]


def found_in(content: bytes, allowed: Iterable[bytes] = ()) -> list[str]:
    """The strings that a file's bytes hold, in any letter case and as UTF-8 or UTF-16."""
    kept = set(allowed)
    lower = content.lower()
    return [
        text.decode()
        for text in strings()
        if text not in kept and (text.lower() in lower or text.decode().lower().encode("utf-16-le") in lower)
    ]
