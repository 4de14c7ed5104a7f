"""Coded concepts: what DICOM takes, and what stands in for a label without one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeft.errors import RecipeError
from edgeft.medical.codes import OWN_SCHEME, Code, code_labels, fit, own_code, read_codes

LIVER = {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}
ORGAN = {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"}


def test_stated_codes_are_taken_and_the_others_get_a_private_one() -> None:
    stated = read_codes(json.dumps({"liver": {**LIVER, "category": ORGAN}}).encode(), ["liver", "spleen"], "codes.json")
    found = code_labels(["liver", "spleen"], stated)
    assert found["liver"].code == Code("10200004", "SCT", "Liver") and not found["liver"].private
    assert found["liver"].category.meaning == "Anatomical Structure"
    assert found["spleen"].private and found["spleen"].code.scheme == OWN_SCHEME
    assert found["spleen"].code.meaning == "spleen" and found["spleen"].category.value == "309825002"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"kidney": LIVER}, "no label of the bundle"),
        ({"liver": {**LIVER, "value": "x" * 17}}, "value must be 1 to 16"),
        ({"liver": {**LIVER, "scheme": "S\\T"}}, "scheme must be 1 to 16"),
        ({"liver": {**LIVER, "meaning": "x" * 65}}, "meaning must be 1 to 64"),
        ({"liver": {**LIVER, "meaning": "a\nb"}}, "meaning must be 1 to 64"),
        ({"liver": {**LIVER, "value": 10200004}}, "are texts"),
        ({"liver": {"value": "1", "scheme": "SCT"}}, "meaning is missing"),
        ({"liver": {**LIVER, "colour": "red"}}, "'colour' is no part of a code"),
        ({"liver": {**LIVER, "category": "organ"}}, "a code is an object"),
        ({"liver": []}, "the code of 'liver'"),
        ([], "one object"),
    ],
)
def test_what_is_no_file_of_codes_is_refused_in_words(rows: object, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        read_codes(json.dumps(rows).encode(), ["liver"], "codes.json")
    assert caught.value.where == "codes.json" and caught.value.hint


def test_hostile_files_of_codes_are_refused() -> None:
    for raw in (b"[" * 100_000, b"\xff", b"{", b" " * (2 << 20)):
        with pytest.raises(RecipeError):
            read_codes(raw, ["liver"], "codes.json")


@given(st.text(max_size=200))
def test_every_label_gets_a_code_that_dicom_takes(label: str) -> None:
    code = own_code(label)
    assert code.code.fault() == "" and code == own_code(label)
    assert fit(fit(label)) == fit(label) and len(fit(label)) <= 64 and "\\" not in fit(label)


def test_labels_that_look_alike_once_cut_keep_different_codes() -> None:
    one, two = "x" * 70 + "1", "x" * 70 + "2"
    assert fit(one) == fit(two) and own_code(one).code.value != own_code(two).code.value
