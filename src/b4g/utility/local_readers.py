"""Readers of the public files of standard tasks: each turns a row into the fields that the task's template names.

Choices and questions keep the spaces they have in the file, since a space changes the tokens. A row that lacks a column
raises `DataError`, which names file, row, what was wanted and what was found.
"""

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b4g.errors import DataError

Row = dict[str, Any]
_ARC = re.compile(r"question: (.*?)\n\n(Answer1: .*?)\n\nAnswer format: (\S+)", re.DOTALL)
_WINOGRANDE = re.compile(r"sentence: (.*?)\n\n(Option1: .*?)\s*Answer format: (\S+)", re.DOTALL)
_BRACKETS = re.compile(r"\[.*?\]")


@dataclass(frozen=True)
class Record:
    """One row of a file, and where it stands."""

    path: Path
    place: int
    fields: Mapping[str, Any]

    def has(self, *names: str) -> bool:
        """Whether the row has all these columns."""
        return set(names) <= self.fields.keys()

    def refuse(self, wanted: str) -> DataError:
        """Return the error that names the columns found and those wanted."""
        found = ", ".join(sorted(map(str, self.fields))) or "none"
        return DataError(f"{self.path}, row {self.place}: found the columns {found}; wanted: {wanted}")

    def text(self, *names: str) -> str:
        """Return the text of the first of these columns that is there."""
        name = next((name for name in names if name in self.fields), None)
        if name is None:
            raise self.refuse(" or ".join(names))
        found = self.fields[name]
        if not isinstance(found, str) or not found.strip():
            raise DataError(f"{self.path}, row {self.place}: the column '{name}' holds no text; wanted: text")
        return found

    def choice(self, known: Mapping[str, int], *names: str) -> int:
        """Return the place that ``known`` gives the label in the first of these columns that is there."""
        name = next((name for name in names if name in self.fields), None)
        if name is None:
            raise self.refuse(" or ".join(names))
        label = str(self.fields[name]).strip()
        if label not in known:
            raise DataError(
                f"{self.path}, row {self.place}: the column '{name}' holds '{label}'; wanted: {' or '.join(known)}"
            )
        return known[label]


Reader = Callable[[Record], Row]


def arc(record: Record) -> Row:
    """Read ARC as the hub has it, or as an instruction that lists ``Answer1: ... Answer2: ...``."""
    if record.has("instruction", "answer"):
        question, choices, gold = _instructed(record, _ARC, "answer")
        return {"question": question, "choices": choices, "gold": gold}
    if not record.has("question", "choices", "answerKey"):
        raise record.refuse("instruction and answer, or question, choices and answerKey")
    listed = record.fields["choices"]
    if not isinstance(listed, dict) or not {"text", "label"} <= listed.keys():
        raise DataError(f"{record.path}, row {record.place}: the column 'choices' wants the lists text and label")
    known = {str(label): place for place, label in enumerate(listed["label"])}
    gold = record.choice(known, "answerKey")
    return {"question": record.text("question"), "choices": list(listed["text"]), "gold": gold}


def winogrande(record: Record) -> Row:
    """Read WinoGrande: each choice is the sentence up to the blank, filled; the rest of the sentence is scored."""
    if record.has("instruction", "answer"):
        sentence, options, gold = _instructed(record, _WINOGRANDE, "option")
    elif record.has("sentence", "option1", "option2", "answer"):
        sentence, options = record.text("sentence"), [record.text("option1"), record.text("option2")]
        gold = record.choice({"1": 0, "2": 1}, "answer")
    else:
        raise record.refuse("instruction and answer, or sentence, option1, option2 and answer")
    before, blank, after = sentence.partition("_")
    if not blank or not after.strip():
        raise DataError(f"{record.path}, row {record.place}: the sentence has no blank '_' with words behind it")
    return {"choices": [before + option for option in options], "ending": after.strip(), "gold": gold}


def _instructed(record: Record, form: re.Pattern[str], word: str) -> tuple[str, list[str], int]:
    """Return question, choices and gold of an instruction such as ``... question: Q`` with numbered choices."""
    where = f"{record.path}, row {record.place}"
    found = form.search(record.text("instruction"))
    if found is None:
        raise DataError(f"{where}: the instruction lists no choices as '{word.title()}1: ...'")
    question, listed, names = found.groups()
    wanted = names.split("/")
    parts = re.split(rf"(?:^|\s+){word.title()}(\d): ", listed)
    if parts[1::2] != [str(place) for place in range(1, len(wanted) + 1)]:
        raise DataError(f"{where}: found the choices {', '.join(parts[1::2])}; wanted: {', '.join(wanted)}")
    gold = record.choice({f"{word}{place + 1}": place for place in range(len(wanted))}, "answer")
    return question, parts[2::2], gold


def hellaswag(record: Record) -> Row:
    """Read HellaSwag as its authors have it, or as question with choices A to D (which lacks the activity's name)."""
    if record.has("question", "choices", "answer"):
        listed = record.fields["choices"]
        if not isinstance(listed, dict) or list(listed) != list("ABCD"):
            raise DataError(f"{record.path}, row {record.place}: the column 'choices' wants the keys A, B, C and D")
        context, choices = record.text("question"), list(listed.values())
        gold = record.choice({letter: place for place, letter in enumerate("ABCD")}, "answer")
    elif record.has("activity_label", "ctx_a", "ctx_b", "endings", "label"):
        choices = list(record.fields["endings"])
        later = str(record.fields["ctx_b"]).capitalize()
        context = f"{record.text('activity_label')}: {record.text('ctx_a')} {later}"
        gold = record.choice({str(place): place for place in range(len(choices))}, "label")
    else:
        raise record.refuse("question, choices and answer, or activity_label, ctx_a, ctx_b, endings and label")
    return {
        "context": _unmarked(context).lstrip(),
        "choices": [_unmarked(str(choice)) for choice in choices],
        "gold": gold,
    }


def _unmarked(text: str) -> str:
    """Take out the marks in brackets that WikiHow's texts carry; a title ends a sentence."""
    return _BRACKETS.sub("", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def piqa(record: Record) -> Row:
    """Read PIQA; its labels come from the file beside it or from a column."""
    choices = [record.text("sol1"), record.text("sol2")]
    return {"question": record.text("goal"), "choices": choices, "gold": record.choice({"0": 0, "1": 1}, "label")}


def gsm8k(record: Record) -> Row:
    """Read GSM8K: the answer is the reasoning, closed by ``#### number``."""
    answer = record.text("answer")
    if "####" not in answer:
        raise DataError(f"{record.path}, row {record.place}: the column 'answer' holds no '#### number'")
    return {"question": record.text("question"), "answer": answer}


def truthful_mc1(record: Record) -> Row:
    """Read TruthfulQA with a single true choice, which is put first as lm-eval wants it."""
    choices, labels = _targets(record, "mc1_targets")
    if labels.count(1) != 1:
        raise DataError(f"{record.path}, row {record.place}: mc1_targets has {labels.count(1)} true choices; wanted: 1")
    order = sorted(range(len(choices)), key=lambda place: -labels[place])
    return {"question": record.text("question"), "choices": [choices[place] for place in order], "gold": 0}


def truthful_mc2(record: Record) -> Row:
    """Read TruthfulQA with several true choices: ``gold`` lists their places."""
    choices, labels = _targets(record, "mc2_targets")
    gold = [place for place, label in enumerate(labels) if label == 1]
    if not gold:
        raise DataError(f"{record.path}, row {record.place}: mc2_targets has no true choice; wanted: at least 1")
    return {"question": record.text("question"), "choices": choices, "gold": gold}


def _targets(record: Record, name: str) -> tuple[list[str], list[int]]:
    found = record.fields.get(name)
    if not isinstance(found, dict) or not found:
        raise record.refuse(f"question and {name} (choices with 1 or 0)")
    if found.keys() == {"choices", "labels"}:
        return list(found["choices"]), [int(label) for label in found["labels"]]
    return list(found), [int(label) for label in found.values()]


def sst2(record: Record) -> Row:
    """Read SST-2: 0 is negative, 1 positive."""
    return {"context": record.text("sentence", "text"), "gold": record.choice({"0": 0, "1": 1}, "label")}


def rte(record: Record) -> Row:
    """Read RTE: 0 means that the second sentence follows from the first."""
    known = {"0": 0, "1": 1, "entailment": 0, "not_entailment": 1}
    pair = {"premise": record.text("sentence1"), "hypothesis": record.text("sentence2")}
    return {**pair, "gold": record.choice(known, "label")}


def mnli(record: Record) -> Row:
    """Read MNLI: 0 is entailment, 1 neutral, 2 contradiction."""
    known = {"0": 0, "1": 1, "2": 2, "entailment": 0, "neutral": 1, "contradiction": 2}
    hypothesis = record.text("hypothesis", "sentence2").strip()
    closed = hypothesis if hypothesis.endswith(".") else f"{hypothesis}."
    pair = {"premise": record.text("premise", "sentence1"), "hypothesis": closed}
    return {**pair, "gold": record.choice(known, "gold_label", "label")}


def mmlu_rows(path: Path) -> list[Row]:
    """Return the rows of one subject's file: question, four choices and a letter, without a header."""
    subject = re.sub(r"_(test|val|dev)$", "", path.stem).replace("_", " ")
    rows: list[Row] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for place, cells in enumerate(csv.reader(file, strict=True), 1):
                if len(cells) != 6 or cells[5].strip() not in tuple("ABCD"):
                    raise DataError(
                        f"{path}, row {place}: found {len(cells)} columns; wanted: 6 (question, four choices, A to D)"
                    )
                gold = "ABCD".index(cells[5].strip())
                rows.append({"question": cells[0], "choices": cells[1:5], "gold": gold, "subject": subject})
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read as CSV ({type(error).__name__}: {error})") from None
    if not rows:
        raise DataError(f"{path} is empty; wanted: at least one question")
    return rows
