"""Writes acquired series as Enhanced MR Image Storage: one object a series, same stored pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, EnhancedMRImageStorage

from npc_edge.bench.phantom.dicom import (
    Acquired,
    Identity,
    StoredSlice,
    clock,
    common_attributes,
    file_name,
    in_written_order,
    numbers,
    pixel_attributes,
    save,
    series_folder,
    stored_slices,
)
from npc_edge.bench.phantom.protocol import Protocol, SeriesPlan


def write_enhanced_series(folder: Path, identity: Identity, protocol: Protocol, acquired: Acquired) -> Path:
    """Write a series as one Enhanced MR object into its sub-folder of `folder`; returns the file."""
    spec, plan = identity.spec, acquired.plan
    slices = in_written_order(stored_slices(acquired, spec.vendor), spec)
    data = common_attributes(identity, protocol, plan)
    data.SOPClassUID = EnhancedMRImageStorage
    data.SOPInstanceUID = identity.uid("enhanced", plan.role)
    data.InstanceNumber = 1
    del data.AcquisitionTime, data.AcquisitionDate
    _image_module(data, identity, plan)
    _pulse_sequence(data, plan)
    pixel_attributes(data, np.stack([stored.pixels for stored in slices]))
    data.BitsStored, data.HighBit = (16, 15) if max(s.pixels.max() for s in slices) > 4095 else (12, 11)
    data.NumberOfFrames = len(slices)
    dimensions = identity.uid("dimensions", plan.role)
    _dimension_module(data, dimensions)
    data.SharedFunctionalGroupsSequence = Sequence([_shared(plan, slices)])
    frames = [_per_frame(plan, stored, frame, identity.date) for frame, stored in enumerate(slices, start=1)]
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    path = folder / series_folder(spec, plan) / file_name(spec, plan, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(data, path)
    return path


def _image_type(plan: SeriesPlan) -> list[str]:
    flavour = {"T1": "T1", "T1C": "T1", "T2": "T2", "LOCALIZER": "LOCALIZER"}[plan.role]
    return ["ORIGINAL", "PRIMARY", flavour, "NONE"]


def _image_module(data: Dataset, identity: Identity, plan: SeriesPlan) -> None:
    """Enhanced MR image module, acquisition context and the common image description."""
    data.ImageType = _image_type(plan)
    data.AcquisitionNumber = 1
    data.AcquisitionDateTime = identity.date + clock(plan.start_s)
    data.AcquisitionDuration = 180.0
    data.ContentQualification = "RESEARCH"
    data.ResonantNucleus = "1H"
    data.KSpaceFiltering = "NONE"
    data.MagneticFieldStrength = plan.parameters.field_t
    data.ApplicableSafetyStandardAgency = "IEC"
    data.ApplicableSafetyStandardDescription = ""
    data.PixelPresentation = "MONOCHROME"
    data.VolumetricProperties = "VOLUME"
    data.VolumeBasedCalculationTechnique = "NONE"
    data.ComplexImageComponent = "MAGNITUDE"
    data.AcquisitionContrast = {"T2": "T2"}.get(plan.role, "T1")
    if plan.parameters.fat_suppression == "stir":
        data.AcquisitionContrast = "STIR"
    data.LossyImageCompression = "00"
    data.PresentationLUTShape = "IDENTITY"
    data.AcquisitionContextSequence = Sequence([])
    data.IsocenterPosition = [0.0, 0.0, 0.0]
    if plan.role == "T1C":
        data.ContrastBolusAgentSequence = Sequence([_agent(plan)])


def _pulse_sequence(data: Dataset, plan: SeriesPlan) -> None:
    gradient = "SE" not in plan.scanning_sequence
    data.PulseSequenceName = (plan.sequence_name or plan.description)[:16].strip()
    data.MRAcquisitionType = "2D"
    data.EchoPulseSequence = "GRADIENT" if gradient else "SPIN"
    if not gradient:
        data.MultipleSpinEcho = "YES"
    data.MultiPlanarExcitation = "NO"
    data.PhaseContrast = "NO"
    data.TimeOfFlightContrast = "NO"
    data.SteadyStatePulseSequence = "NONE"
    data.EchoPlanarPulseSequence = "NO"
    data.SaturationRecovery = "NO"
    data.SpectrallySelectedSuppression = "FAT" if plan.parameters.fat_suppression == "spectral" else "NONE"
    data.OversamplingPhase = "NONE"
    data.GeometryOfKSpaceTraversal = "RECTILINEAR"
    data.RectilinearPhaseEncodeReordering = "LINEAR"
    data.SegmentedKSpaceTraversal = "PARTIAL"
    data.NumberOfKSpaceTrajectories = 1


def _dimension_module(data: Dataset, uid: UID) -> None:
    organisation = Dataset()
    organisation.DimensionOrganizationUID = uid
    data.DimensionOrganizationSequence = Sequence([organisation])
    indices = []
    for pointer, label in ((0x00209056, "Stack ID"), (0x00209057, "In-Stack Position Number")):
        index = Dataset()
        index.DimensionOrganizationUID = uid
        index.DimensionIndexPointer = pointer
        index.FunctionalGroupPointer = 0x00209111
        index.DimensionDescriptionLabel = label
        indices.append(index)
    data.DimensionIndexSequence = Sequence(indices)


def _agent(plan: SeriesPlan) -> Dataset:
    """Enhanced contrast/bolus: agent, route and when it was given."""
    agent = _code("C-17800", "SRT", "Gadolinium")
    agent.ContrastBolusAgentNumber = 1
    agent.ContrastBolusAdministrationRouteSequence = Sequence([_code("G-D101", "SRT", "Intravenous route")])
    agent.ContrastBolusIngredientCodeSequence = Sequence([_code("C-17800", "SRT", "Gadolinium")])
    agent.ContrastBolusVolume = 6.5
    agent.ContrastBolusIngredientConcentration = 1.0
    profile = Dataset()
    profile.ContrastBolusVolume = 6.5
    profile.ContrastBolusStartTime = clock(plan.start_s - 90)
    profile.ContrastBolusStopTime = clock(plan.start_s - 85)
    agent.ContrastAdministrationProfileSequence = Sequence([profile])
    return agent


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _group(**attributes: object) -> Sequence:
    """A functional group: a sequence of one item with these attributes."""
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Sequence([item])


def _shared(plan: SeriesPlan, slices: list[StoredSlice]) -> Dataset:
    """The functional groups that are the same for every frame."""
    parameters = plan.parameters
    _, rows, columns = slices[0].geometry.shape
    shared = Dataset()
    rows_phase = plan.flaws.phase_axis == 0
    shared.MRFOVGeometrySequence = _group(
        InPlanePhaseEncodingDirection="COLUMN" if rows_phase else "ROW",
        MRAcquisitionFrequencyEncodingSteps=columns,
        MRAcquisitionPhaseEncodingStepsInPlane=rows,
        PercentSampling=100.0,
        PercentPhaseFieldOfView=100.0,
    )
    shared.MRTimingAndRelatedParametersSequence = _timing(plan)
    shared.MREchoSequence = _group(EffectiveEchoTime=parameters.te_ms)
    shared.MRModifierSequence = _modifier(plan)
    shared.MRImagingModifierSequence = _group(
        MagnetizationTransfer="NONE",
        BloodSignalNulling="NO",
        Tagging="NONE",
        TransmitterFrequency=42.577 * parameters.field_t,
        PixelBandwidth=200.0,
    )
    shared.MRReceiveCoilSequence = _group(
        ReceiveCoilName="HEAD_NECK",
        ReceiveCoilManufacturerName="",
        ReceiveCoilType="MULTICOIL",
        QuadratureReceiveCoil="NO",
        MultiCoilDefinitionSequence=_group(MultiCoilElementName="HN1", MultiCoilElementUsed="YES"),
    )
    shared.MRTransmitCoilSequence = _group(
        TransmitCoilName="BODY", TransmitCoilManufacturerName="", TransmitCoilType="BODY"
    )
    shared.MRAveragesSequence = _group(NumberOfAverages=2.0)
    anatomy = _group(FrameLaterality="U")
    anatomy[0].AnatomicRegionSequence = Sequence([_code("69536005", "SCT", "Head")])
    shared.FrameAnatomySequence = anatomy
    return shared


def _timing(plan: SeriesPlan) -> Sequence:
    gradient = "SE" not in plan.scanning_sequence
    timing = _group(
        RepetitionTime=plan.parameters.tr_ms,
        FlipAngle=25.0 if gradient else 90.0,
        EchoTrainLength=plan.echo_train,
        RFEchoTrainLength=0 if gradient else plan.echo_train,
        GradientEchoTrainLength=1 if gradient else 0,
    )
    timing[0].SpecificAbsorptionRateSequence = _group(
        SpecificAbsorptionRateDefinition="IEC_HEAD", SpecificAbsorptionRateValue=0.8
    )
    timing[0].GradientOutputType = "DB_DT"
    timing[0].GradientOutput = 40.0
    timing[0].OperatingModeSequence = Sequence(
        [_operating("STATIC FIELD"), _operating("RF"), _operating("GRADIENT")]
    )
    return timing


def _operating(kind: str) -> Dataset:
    mode = Dataset()
    mode.OperatingModeType = kind
    mode.OperatingMode = "IEC_NORMAL"
    return mode


def _modifier(plan: SeriesPlan) -> Sequence:
    inverted = plan.parameters.fat_suppression == "stir"
    modifier = _group(
        InversionRecovery="YES" if inverted else "NO",
        FlowCompensation="NONE",
        Spoiling="NONE",
        T2Preparation="NO",
        SpectrallySelectedExcitation="NONE",
        SpatialPresaturation="NONE",
        PartialFourier="NO",
        ParallelAcquisition="NO",
    )
    if inverted:
        modifier[0].InversionTimes = [plan.parameters.ti_ms]
    return modifier


def _per_frame(plan: SeriesPlan, stored: StoredSlice, frame: int, date: str) -> Dataset:
    """Where this frame lies and how its values become real ones."""
    geometry = stored.geometry
    sx, sy, sz = geometry.spacing
    stack = {"axial": "1", "coronal": "2", "sagittal": "3"}[geometry.plane()]
    item = Dataset()
    item.FrameContentSequence = _group(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=date + clock(plan.start_s + 90),
        FrameAcquisitionDateTime=date + clock(plan.start_s),
        FrameAcquisitionDuration=180000.0,
        StackID=stack,
        InStackPositionNumber=stored.index + 1,
        DimensionIndexValues=[int(stack), stored.index + 1],
    )
    item.PlanePositionSequence = _group(ImagePositionPatient=numbers(stored.position))
    directions = [*geometry.direction[:, 0], *geometry.direction[:, 1]]
    item.PlaneOrientationSequence = _group(ImageOrientationPatient=numbers(directions))
    item.PixelMeasuresSequence = _group(
        PixelSpacing=numbers([sy, sx]), SliceThickness=numbers([plan.thickness_mm])[0]
    )
    if plan.role != "LOCALIZER":
        item.PixelMeasuresSequence[0].SpacingBetweenSlices = numbers([sz])[0]
    item.PixelValueTransformationSequence = _group(
        RescaleIntercept=numbers([stored.intercept])[0],
        RescaleSlope=numbers([stored.slope])[0],
        RescaleType="US",
    )
    top = float(np.percentile(stored.pixels, 99.5)) * stored.slope + stored.intercept
    item.FrameVOILUTSequence = _group(WindowCenter=numbers([top / 2]), WindowWidth=numbers([max(1.0, top)]))
    item.MRImageFrameTypeSequence = _group(
        FrameType=_image_type(plan),
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent="MAGNITUDE",
        AcquisitionContrast="STIR" if plan.parameters.fat_suppression == "stir" else _contrast(plan),
    )
    if plan.role == "T1C":
        item.ContrastBolusUsageSequence = _group(
            ContrastBolusAgentNumber=1, ContrastBolusAgentAdministered="YES", ContrastBolusAgentDetected="YES"
        )
    return item


def _contrast(plan: SeriesPlan) -> str:
    return "T2" if plan.role == "T2" else "T1"
