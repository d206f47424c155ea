"""An analysis as a DICOM Structured Report: TID 1500, one TID 1501 group per label.

The content is restricted to what Enhanced, Comprehensive and Comprehensive 3D SR all allow, so that
the SOP class is only a matter of what the archive takes. An absence is stated only here, with its
certainty, and never as a sentence that a reader could take for a clearance.

References
----------
DICOM PS3.16 TID 1500, 1501, 1004, 4019, 1600; PS3.3 A.35; IHE AIR 6.5.3.
"""

from __future__ import annotations

import warnings
from typing import Any

import highdicom as hd
from pydicom import Dataset
from pydicom.valuerep import DSfloat

from ichnode.domain.findings import Finding, LabelResult, Presence
from ichnode.domain.ids import result_uid
from ichnode.domain.work import DocumentWork
from ichnode.report import codes
from ichnode.report.encoding import ascii_text, dataset_elements, element, file_bytes, sequence
from ichnode.report.evidence import (
    EVIDENCE,
    KeySlice,
    evidence,
    key_slice,
    middle_slice,
    predecessors,
)
from ichnode.report.heading import (
    NOT_FOR_DIAGNOSIS,
    PRODUCT,
    Model,
    Series,
    document_series_uid,
    heading,
)
from ichnode.report.source import Source
from ichnode.settings import ReportSettings

ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SR_CLASSES = (COMPREHENSIVE_3D_SR, COMPREHENSIVE_SR, ENHANCED_SR)

DESCRIPTION = f"AI ICH triage - {NOT_FOR_DIAGNOSIS}"
_COMMENT = "Not for diagnostic use: output of an AI model that orders the reading list."
_VOLUME = "The volume is an estimate of the model, and no measurement to treat by."


def structured_report(work: DocumentWork, settings: ReportSettings, source: Source) -> bytes:
    """Write the report of one analysis.

    Parameters
    ----------
    work : DocumentWork
        What was found, in which images; its SOP class is one of `SR_CLASSES`.
    settings : ReportSettings
        Names and series numbers.
    source : Source
        The header of one of the images.

    Returns
    -------
    bytes
        A Part 10 file in Explicit VR Little Endian; the same work gives the same bytes.
    """
    series = Series(document_series_uid(work), "SR", settings.series_number_sr, DESCRIPTION)
    elements = heading(work, settings, source, series)
    elements |= dataset_elements(_content(work, settings, source))
    elements |= predecessors(work)
    elements |= {
        EVIDENCE: evidence(work),
        0x00081111: sequence(0x00081111, ()),  # Referenced Performed Procedure Step, type 2
        0x0040A372: sequence(0x0040A372, ()),  # Performed Procedure Code, type 2
        0x0040A491: element(0x0040A491, "CS", "COMPLETE"),
        0x0040A493: element(0x0040A493, "CS", "UNVERIFIED"),  # no person answers for it
        0x0040A496: element(0x0040A496, "CS", "PRELIMINARY"),
    }
    if request := source.request(work.study_uid):
        elements[0x0040A370] = sequence(0x0040A370, request)
    return file_bytes(work.sop_class_uid, work.sop_uid, elements)


def _content(work: DocumentWork, settings: ReportSettings, source: Source) -> Dataset:
    """Return the root of the content tree."""
    model = Model.of(work, settings)
    with warnings.catch_warnings():
        # A scanner's UID with a leading zero is referred to as it is; pydicom would warn.
        warnings.simplefilter("ignore")
        report = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(observer_device_context=_observer(model)),
            procedure_reported=source.procedure() or codes.CT_HEAD,
            imaging_measurements=[_group(work, model, one) for one in work.result.labels],
            title=codes.REPORT_TITLE,
            referenced_images=[_library_image(one, source) for one in _shown(work)],
            language_of_content_item_and_descendants=(
                hd.sr.LanguageOfContentItemAndDescendants(language=codes.ENGLISH)
            ),
        )
    return report[0]


def _observer(model: Model) -> Any:
    """Return the device observer (TID 1004)."""
    return hd.sr.ObserverContext(
        observer_type=codes.DEVICE,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=model.uid,
            name=PRODUCT,
            manufacturer_name=model.manufacturer,
            model_name=model.name,
        ),
    )


def _group(work: DocumentWork, model: Model, label: LabelResult) -> Any:
    """Return the measurement group of one label (TID 1501)."""
    coded = codes.LABEL_CODES[label.label]
    shown = [key_slice(work, label.key_sop_uid)] if _is_shown(label) else []
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=result_uid("track", work.study_uid, work.series_uid, model.uid, label.label),
            identifier=f"ICH-{label.label}",
        ),
        finding_type=coded.finding,
        finding_sites=[hd.sr.FindingSite(anatomic_location=coded.site)],
        algorithm_id=_algorithm(work, model, label),
        measurements=_measurements(work, model, label),
        qualitative_evaluations=_evaluations(work, label),
        source_images=[_source_image(key) for key in shown] or None,
    )
    if label.label == "any":
        group[0].ContentSequence.append(_comment(work))
    return group


def _measurements(work: DocumentWork, model: Model, label: LabelResult) -> list[Any]:
    """Return the certainty, and the volume where the model states one (TID 300)."""
    certainty = DSfloat(per_cent(label))
    found = [hd.sr.Measurement(name=codes.CERTAINTY, value=certainty, unit=codes.PERCENT)]
    if label.volume_ml is not None:
        found.append(
            hd.sr.Measurement(
                name=codes.VOLUME,
                value=DSfloat(round(label.volume_ml, 1)),
                unit=codes.MILLILITER,
                method=codes.SUM_OF_VOXELS,
                algorithm_id=hd.sr.AlgorithmIdentification(
                    name=model.name,
                    version=model.version,
                    manufacturer=model.manufacturer,
                    parameters=[ascii_text(work.result.volume_how, 1024)],
                    family=codes.AI_FAMILY,
                ),
            )
        )
    return found


def per_cent(label: LabelResult) -> float:
    """Return the certainty as it is written: per cent with one decimal."""
    return round(100 * min(max(label.probability, 0.0), 1.0), 1)


def _algorithm(work: DocumentWork, model: Model, label: LabelResult) -> Any:
    """Return the algorithm identification (TID 4019); the operating point once, with "any"."""
    point = work.result.operating_point if label.label == "any" else ()
    return hd.sr.AlgorithmIdentification(
        name=model.name,
        version=model.version,
        manufacturer=model.manufacturer,
        parameters=[f"threshold_{ascii_text(name)}={value:g}" for name, value in point] or None,
        family=codes.AI_FAMILY,
    )


def _evaluations(work: DocumentWork, label: LabelResult) -> list[Any]:
    presence = codes.PRESENCE_CODES[label.presence]
    evaluations = [hd.sr.QualitativeEvaluation(name=codes.PRESENCE, value=presence)]
    if label.label == "any" and work.result.finding is Finding.POSITIVE:
        evaluations.append(
            hd.sr.QualitativeEvaluation(name=codes.SIGNIFICANCE, value=codes.ACTIONABLE)
        )
    return evaluations


def _comment(work: DocumentWork) -> Any:
    noted = "; ".join(ascii_text(warning, 200) for warning in work.result.warnings)
    said = [_COMMENT]
    if work.result.of("any").volume_ml is not None:
        said.append(_VOLUME)
    if noted:
        said.append(f"Input: {noted}.")
    return hd.sr.TextContentItem(
        name=codes.COMMENT,
        value=" ".join(said),
        relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
    )


def _is_shown(label: LabelResult) -> bool:
    return label.presence is not Presence.ABSENT


def _shown(work: DocumentWork) -> list[KeySlice]:
    """Return the slices for the image library: the key slices, else the middle one.

    A library of every slice costs a second and five times the bytes, and says nothing more than
    the evidence sequence.
    """
    uids = {label.key_sop_uid for label in work.result.labels if _is_shown(label)}
    slices = {key.instance.sha256: key for key in (key_slice(work, uid) for uid in sorted(uids))}
    return list(slices.values()) or [middle_slice(work)]


def _source_image(key: KeySlice) -> Any:
    return hd.sr.SourceImageForMeasurementGroup(
        referenced_sop_class_uid=key.header.sop_class_uid,
        referenced_sop_instance_uid=key.header.sop_uid,
        referenced_frame_numbers=[key.frame] if key.frame is not None else None,
    )


def _library_image(key: KeySlice, source: Source) -> Dataset:
    """Return what the image library (TID 1600) says of a slice, taken from its header."""
    header = key.header
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = header.sop_class_uid, header.sop_uid
    image.Rows, image.Columns = header.rows or 0, header.columns or 0
    if uid := source.frame_of_reference_uid:
        image.FrameOfReferenceUID = uid
    placed = header.position_mm and header.orientation and header.pixel_spacing_mm
    if key.frame is not None or not placed or header.slice_thickness_mm is None:
        image.Modality = ""  # no descriptors of a plane (TID 1604): there is none, or not just one
        return image
    image.Modality = "CT"
    image.PixelSpacing = list(header.pixel_spacing_mm or ())
    image.SliceThickness = header.slice_thickness_mm
    image.ImagePositionPatient = list(header.position_mm or ())
    image.ImageOrientationPatient = list(header.orientation or ())
    return image
