"""Reports from files, the tables that are made of them, and the commands."""

from __future__ import annotations

import csv
import re

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ichnode.domain.findings import LABELS
from ichnode.service.label_files import read_labels as read_for_the_node
from train.cli.reports import commands
from train.data.labels import read_labels as read_for_training
from train.errors import TrainingError
from train.reports.checking import check, total
from train.reports.labelling import label_report
from train.reports.merging import merged
from train.reports.rules import load_rules
from train.reports.sections import sentences
from train.reports.showing import show
from train.reports.tables import Labelled, Report, read_reports
from train.reports.training_labels import training_labels

REPORTS = {
    "A1": "HISTORY: fall, ?bleed. FINDINGS: Acute left SDH. No intraventricular blood.",
    "A2": "No acute intracranial haemorrhage.",
    "A3": "Possible trace SAH, seen by Dr Secretname.",
    "A4": "Degenerative change of the spine.",
}


def write(path, rows, columns=("accession_number", "text")):
    """Write a CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def rows(path):
    """Read a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(*arguments):
    """Run a command of `reports`."""
    result = CliRunner().invoke(commands, [str(one) for one in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_labels_can_be_imported_by_the_node_and_by_training(tmp_path):
    """Known labels only; studies of which nothing is known are left out."""
    out = tmp_path / "labels.csv"
    run("label", write(tmp_path / "reports.csv", REPORTS.items()), "--out", out)
    node = read_for_the_node(out, source="reader")
    assert node.bad == ()
    assert [line.accession_number for line in node.lines] == ["A1", "A2"]
    assert node.lines[0].stated == {"any": True, "subdural": True, "intraventricular": False}
    assert node.lines[1].stated == dict.fromkeys(LABELS, False)
    assert {line.source for line in node.lines} == {"report"}
    training = read_for_training(out)
    assert training.level == "accession_number"
    assert training.sources == {"A1": "report", "A2": "report"}
    assert training.labels["A1"].tolist()[::5] == [1.0, 1.0]


def test_a_folder_of_texts_is_read_by_file_name(tmp_path):
    """The name is the identifier; empty files are counted."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in REPORTS.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    (folder / "A5.txt").write_text("\n", encoding="utf-8")
    reports = read_reports(folder)
    assert [report.identifier for report in reports.reports] == list(REPORTS)
    assert (reports.column, reports.without_text) == ("accession_number", 1)


def test_columns_of_sections_become_one_report(tmp_path):
    """Findings and impression in columns of their own are read as these sections."""
    path = write(
        tmp_path / "reports.csv",
        [("1.2.3", "?SAH", "Left SDH.", "No intracranial haemorrhage.")],
        ("Study UID", "indication", "findings", "impression"),
    )
    reports = read_reports(path)
    assert reports.column == "study_uid"
    read = label_report(reports.reports[0].text)
    assert read["subdural"].answer == "absent"
    assert read["subdural"].overruled.startswith("findings: present")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a,text\n1,x\n", "no column accession_number or study_uid"),
        (b"study_uid,words\n1,x\n", "no column text or report"),
        (b"study_uid,text\n1,\n", "no line with both"),
        (b"study_uid,text\n1,\xff\n", "not in UTF-8"),
        (b'study_uid,text\n1,"never closed\n2,x\n', "is no CSV near line 3"),
    ],
)
def test_a_file_that_is_none_stops_with_a_sentence(tmp_path, content, sentence):
    """It says what is missing, not what is in the file."""
    path = tmp_path / "reports.csv"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=sentence) as caught:
        read_reports(path)
    assert "never closed" not in str(caught.value)


def test_evidence_is_for_its_owner_and_can_leave_the_words_out(tmp_path):
    """One line a label; with the sentence, or without any word of the report."""
    source, evidence = write(tmp_path / "reports.csv", REPORTS.items()), tmp_path / "evidence.csv"
    run("label", source, "--out", tmp_path / "labels.csv", "--evidence", evidence)
    assert evidence.stat().st_mode & 0o077 == 0
    held = {(row["accession_number"], row["label"]): row for row in rows(evidence)}
    assert len(held) == len(REPORTS) * len(LABELS)
    found = held["A1", "subdural"]
    assert (found["answer"], found["acuity"], found["value"]) == ("present", "acute", "present")
    assert found["sentence"] == "Acute left SDH."
    assert held["A1", "intraventricular"]["cue"] == "no"
    run(
        *("label", source, "--out", tmp_path / "labels.csv"),
        *("--evidence", evidence, "--without-sentences"),
    )
    assert "sentence" not in rows(evidence)[0]
    assert "Secretname" not in evidence.read_text(encoding="utf-8")
    assert all(row["cue"] == "" for row in rows(evidence))


def test_nothing_of_the_reports_is_printed_unless_asked_for(tmp_path):
    """Neither texts nor accession numbers; `--show` prints those in doubt first."""
    source = write(tmp_path / "reports.csv", REPORTS.items())
    quiet = run("label", source, "--out", tmp_path / "labels.csv")
    assert "4 reports of 4 studies" in quiet
    for word in ("Secretname", "A3", "Degenerative"):
        assert word not in quiet
    assert "Secretname" in run("label", source, "--out", tmp_path / "labels.csv", "--show", 1)


def test_the_decisive_sentence_is_marked(tmp_path):
    """Red on the terminal where blood is present; what it overrules is said."""
    text = "\n\nFINDINGS: No haemorrhage.\nIMPRESSION: Small left SDH."
    read = label_report(text)
    console = Console(record=True, width=100, force_terminal=True, file=(tmp_path / "x").open("w"))
    show(console, Labelled("A1", read, training_labels(read), text), 1)
    printed = console.export_text(styles=True)
    console.file.close()
    assert re.search(r"\x1b\[1;31mSmall left SDH\.", printed)
    assert "overrules findings: absent" in printed


def test_two_reports_of_a_study_become_one(tmp_path):
    """What they agree on or only one speaks of is kept; where they differ nobody knows."""
    texts = ("Left SDH.", "No SAH. No SDH.", "Ventricles normal.")
    text, read = merged([(one, label_report(one)) for one in texts])
    assert read["subdural"].answer == "uncertain"
    assert read["subarachnoid"].answer == "absent"
    assert read["epidural"].answer == "not mentioned"
    evidence = read["subarachnoid"].evidence
    assert text[evidence.start : evidence.end] == "No SAH."
    source = write(tmp_path / "reports.csv", [("A1", one) for one in texts])
    assert "3 reports of 1 studies" in run("label", source, "--out", tmp_path / "labels.csv")
    assert rows(tmp_path / "labels.csv")[0]["subdural"] == ""


def test_the_check_counts_what_people_said(tmp_path):
    """Right, wrong and undecided ones of each label, with intervals; differences by line."""
    source = write(
        tmp_path / "checked.csv",
        [
            ("A1", "Left SDH.", "1", "present"),
            ("A2", "Normal CT head.", "0", "0"),
            ("A3", "Possible SAH.", "yes", ""),
            ("A4", "No haemorrhage, says Dr Secretname.", "present", "absent"),
            ("A5", "Ventricles normal.", "unknown", ""),
        ],
        ("accession_number", "text", "any", "subdural"),
    )
    agreements, differing = check(read_reports(source).reports)
    whole = agreements[0]
    assert (whole.found, whole.missed, whole.open_present, whole.right) == (1, 1, 1, 1)
    assert whole.sensitivity == (1, 2)
    assert total(agreements) == (5, 6)
    assert [(one.line, one.label, one.by_hand) for one in differing] == [(5, "any", True)]
    printed = run("check", source)
    assert "line 5: any is present by hand, the report was read as absent" in printed
    assert "Secretname" not in printed
    assert "Secretname" in run("check", source, "--show", 1)


def test_the_check_needs_labels():
    """A table without them, or with words that are none, stops with a sentence."""
    with pytest.raises(TrainingError, match="no column of labels"):
        check([Report("A1", "Left SDH.", 2, {})])
    with pytest.raises(TrainingError, match="Line 2 says of any neither"):
        check([Report("A1", "Left SDH.", 2, {"any": "perhaps"})])
    with pytest.raises(TrainingError, match="No report of the table"):
        check([Report("A1", "Left SDH.", 2, {"any": ""})])


def test_a_site_can_bring_its_own_rules(tmp_path):
    """A file in place of ours; one that is wrong says so."""
    from importlib.resources import files

    ours = files("train.reports").joinpath("rules.toml").read_text(encoding="utf-8")
    path = tmp_path / "rules.toml"
    path.write_text(ours.replace('alone = "subdurals?', 'alone = "sdb|subdurals?'), "utf-8")
    assert label_report("Left SDB.", load_rules(path))["subdural"].answer == "present"
    assert label_report("Left SDB.")["subdural"].answer == "not mentioned"
    for text, sentence in (
        ("[", "is not TOML"),
        ("[spelling]", "lacks an entry"),
        (ours.replace('makes = "uncertain"', 'makes = "perhaps"'), "perhaps"),
        (ours.replace('alone = "subdurals?', 'alone = "(subdurals?'), "pattern that is none"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(TrainingError, match=sentence):
            load_rules(path)


def spans(text: str) -> list[tuple[str, str]]:
    """Return section and text of each sentence."""
    return [(one.section, one.text) for one in sentences(text, load_rules().headings)]


def test_sentences_end_where_reports_end_them():
    """At stops, not in figures and titles; at lines ended on purpose, not at full ones."""
    text = (
        "Dr. Who saw a 5.4 mm clot. There is no evidence of a haemorrhage in the right\n"
        "cerebral hemisphere\nNo fracture\n- Left SDH\n\nVentricles normal"
    )
    assert [sentence for _, sentence in spans(text)] == [
        "Dr. Who saw a 5.4 mm clot.",
        "There is no evidence of a haemorrhage in the right\ncerebral hemisphere",
        "No fracture",
        "- Left SDH",
        "Ventricles normal",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "HISTORY: x.\nFINDINGS: y.\nIMPRESSION: z.",
        "History: x. Findings: y. Impression: z.",
        "history\nx.\nfindings\ny.\nimpression\nz.",
        "Clinical indication - x.\nReport - y.\nConclusion - z.",
        "CT HEAD CLINICAL HISTORY: x. FINDINGS: y. OPINION: z.",
    ],
)
def test_headings_are_found_in_many_shapes(text):
    """On lines of their own, in the middle of a line, in capitals or not."""
    found = [one for one in spans(text) if one[1] != "CT HEAD"]
    assert found == [("ignored", "x."), ("findings", "y."), ("impression", "z.")]


def test_without_a_heading_findings_follow_the_blank_line():
    """A history is not all of a report."""
    assert spans("HISTORY: fall.\n\nThere is a bleed.") == [
        ("ignored", "fall."),
        ("findings", "There is a bleed."),
    ]
