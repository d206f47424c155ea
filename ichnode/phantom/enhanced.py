"""Enhanced CT Image Storage: all slices of a series as frames of one object (PS3.3 A.38)."""

from __future__ import annotations

from collections.abc import Sequence as Ordered

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage

from ichnode.domain.ids import result_uid
from ichnode.phantom.identity import Identity, new_object
from ichnode.phantom.objects import PixelStyle, Plane, Technique, number, stored_pixels


def _one(**values: object) -> Sequence:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return Sequence([item])


def _code(value: str, scheme: str, meaning: str) -> Sequence:
    return _one(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def enhanced_ct(
    identity: Identity,
    hu: npt.NDArray[np.int16],
    planes: Ordered[Plane],
    technique: Technique,
    style: PixelStyle,
    *,
    series_number: int,
    description: str,
) -> Dataset:
    """Return one multi-frame object with the frames in the order of `planes`."""
    ds = new_object(
        identity,
        EnhancedCTImageStorage,
        series_number=series_number,
        instance_number=1,
        description=description,
    )
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    _describe(ds, identity, technique)
    _matrix(ds, hu, style)
    dimension = result_uid("phantom dimensions", identity.study_uid, str(series_number))
    ds.DimensionOrganizationSequence = _one(DimensionOrganizationUID=dimension)
    ds.DimensionIndexSequence = _one(
        DimensionOrganizationUID=dimension,
        DimensionIndexPointer=0x00200032,
        FunctionalGroupPointer=0x00209113,
    )
    ds.SharedFunctionalGroupsSequence = Sequence([_shared(planes[0], technique, style)])
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [_frame(identity, plane, index) for index, plane in enumerate(planes, start=1)]
    )
    ds.AcquisitionContextSequence = Sequence([])
    pixels = np.stack([stored_pixels(image, style) for image in hu])
    ds.add_new(0x7FE00010, "OW", pixels.tobytes())
    return ds


def _describe(ds: Dataset, identity: Identity, technique: Technique) -> None:
    ds.PatientPosition = "HFS"
    ds.FrameOfReferenceUID = identity.frame_of_reference_uid()
    ds.PositionReferenceIndicator = ""
    ds.ContentQualification = "RESEARCH"
    ds.PixelPresentation = "MONOCHROME"
    ds.VolumetricProperties = "VOLUME"
    ds.VolumeBasedCalculationTechnique = "NONE"
    ds.AcquisitionNumber = 1
    ds.AcquisitionDateTime = identity.study_date + identity.study_time
    ds.AcquisitionDuration = 8.0
    ds.BodyPartExamined = technique.body_part
    ds.ProtocolName = technique.protocol
    ds.PresentationLUTShape = "IDENTITY"
    ds.LossyImageCompression = "00"
    ds.BurnedInAnnotation = "NO"
    ds.MultienergyCTAcquisition = "NO"


def _matrix(ds: Dataset, hu: npt.NDArray[np.int16], style: PixelStyle) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.NumberOfFrames, ds.Rows, ds.Columns = hu.shape
    ds.BitsAllocated = 16
    ds.BitsStored = 16 if style.signed else 12
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(style.signed)
    if style.padding is not None:
        ds.add_new(0x00280120, "SS" if style.signed else "US", style.padding)


def _shared(plane: Plane, technique: Technique, style: PixelStyle) -> Dataset:
    shared = Dataset()
    shared.PixelMeasuresSequence = _one(
        PixelSpacing=[number(v) for v in plane.spacing_mm],
        SliceThickness=number(plane.thickness_mm),
    )
    shared.PlaneOrientationSequence = _one(
        ImageOrientationPatient=[number(v) for v in (*plane.row_direction, *plane.column_direction)]
    )
    shared.PixelValueTransformationSequence = _one(
        RescaleIntercept=str(style.intercept_hu), RescaleSlope="1", RescaleType="HU"
    )
    shared.FrameVOILUTSequence = _one(
        WindowCenter=str(technique.window[0]), WindowWidth=str(technique.window[1])
    )
    shared.FrameAnatomySequence = _one(
        FrameLaterality="U", AnatomicRegionSequence=_code("69536005", "SCT", "Head")
    )
    shared.CTImageFrameTypeSequence = _one(
        FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )
    _acquisition(shared, plane, technique)
    return shared


def _acquisition(shared: Dataset, plane: Plane, technique: Technique) -> None:
    shared.CTAcquisitionTypeSequence = _one(
        AcquisitionType="SEQUENCED", ConstantVolumeFlag="NO", FluoroscopyFlag="NO"
    )
    shared.CTTableDynamicsSequence = _one(TableFeedPerRotation=20.0)
    shared.CTAcquisitionDetailsSequence = _one(
        RotationDirection="CW",
        RevolutionTime=1.0,
        SingleCollimationWidth=1.25,
        TotalCollimationWidth=20.0,
        TableHeight="130",
        GantryDetectorTilt=number(technique.tilt_deg),
        DataCollectionDiameter="250",
    )
    shared.CTGeometrySequence = _one(
        DistanceSourceToDetector="950", DistanceSourceToDataCollectionCenter=540.0
    )
    shared.CTReconstructionSequence = _one(
        ReconstructionAlgorithm="FILTER_BACK_PROJ",
        ConvolutionKernel=technique.kernel,
        ConvolutionKernelGroup="BONE" if technique.window[1] > 1000 else "BRAIN",
        ReconstructionDiameter="250",
        ReconstructionPixelSpacing=[float(v) for v in plane.spacing_mm],
        ReconstructionAngle=360.0,
        ImageFilter="NONE",
    )
    shared.CTExposureSequence = _one(
        ExposureTimeInms=1000.0,
        XRayTubeCurrentInmA=float(technique.current_ma),
        ExposureInmAs=float(technique.current_ma),
        ExposureModulationType="NONE",
    )
    shared.CTXRayDetailsSequence = _one(
        KVP=str(technique.kvp),
        FocalSpots=["1.2"],
        FilterType="FLAT",
        FilterMaterial="ALUMINUM",
        CalciumScoringMassFactorPatient=1.0,
    )


def _frame(identity: Identity, plane: Plane, index: int) -> Dataset:
    frame = Dataset()
    frame.FrameContentSequence = _one(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=identity.study_date + identity.study_time,
        FrameAcquisitionDateTime=identity.study_date + identity.study_time,
        FrameAcquisitionDuration=1000.0,
        StackID="1",
        InStackPositionNumber=index,
        DimensionIndexValues=[index],
    )
    frame.PlanePositionSequence = _one(ImagePositionPatient=[number(v) for v in plane.position_mm])
    frame.CTPositionSequence = _one(
        TablePosition=plane.position_mm[2],
        DataCollectionCenterPatient=[0.0, 0.0, plane.position_mm[2]],
        ReconstructionTargetCenterPatient=[0.0, 0.0, plane.position_mm[2]],
    )
    frame.IrradiationEventIdentificationSequence = _one(
        IrradiationEventUID=result_uid("phantom irradiation", identity.study_uid, "Head axial")
    )
    return frame
