"""A RunRecord as HTML, as a model card, as JSON and as lines for the terminal. Pure but for `read_record`."""

from edgeft.report.html import render_html
from edgeft.report.model_card import render_model_card
from edgeft.report.profile import render_profile
from edgeft.report.records import RecordError, read_record, render_json
from edgeft.report.summary import reasons, summary_lines, target_sentence

__all__ = [
    "RecordError",
    "read_record",
    "reasons",
    "render_html",
    "render_json",
    "render_model_card",
    "render_profile",
    "summary_lines",
    "target_sentence",
]
