"""Content-addressed store of step results: nothing is done twice, nothing finished is lost.

Layout: objects/<ab>/<digest>/ with <digest>.files.json beside it (whose own SHA-256 is the digest), steps/<key>.json,
latest/<recipe>/<step>.json, scratch/<key>/, tmp/, broken/, memo.sqlite, openings.jsonl, store.json (format).
An object is published before the record that names it; both appear by rename; a kill leaves only what the next start
clears. Standard library and filelock only.
"""

from edgeft.store.claims import Claim
from edgeft.store.core import Store
from edgeft.store.keys import explain_change, step_key
from edgeft.store.records import CorruptObject, StepResult

__all__ = ["Claim", "CorruptObject", "StepResult", "Store", "explain_change", "step_key"]
