"""A check's record as JUnit XML, in the form of the Ant schema that CI systems read. Pure.

A verdict is a test case. FAIL is a `failure`; INCONCLUSIVE is an `error`, since nothing was shown either way and the
build must not go green. What was left out on purpose is no test case: it stands in the properties.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as Tree

from edgeft.report.check import limit_text
from edgeft.ship.check.record import CheckRecord, CheckVerdict

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, however they are written."""
SUITE, PACKAGE = "check", "edgeft"


def check_junit(record: CheckRecord) -> str:
    """One test suite with one test case per verdict."""
    blocking = [verdict for verdict in record.verdicts if verdict.severity == "block"]
    counts = {status: sum(verdict.status == status for verdict in blocking) for status in ("FAIL", "INCONCLUSIVE")}
    root = Tree.Element("testsuites")
    suite = Tree.SubElement(
        root,
        "testsuite",
        {
            "name": SUITE, "package": PACKAGE, "id": "0", "hostname": _clean(record.device) or "unknown",
            "timestamp": record.started.removesuffix("Z"), "time": f"{record.seconds:.3f}",
            "tests": str(len(record.verdicts)), "failures": str(counts["FAIL"]), "errors": str(counts["INCONCLUSIVE"]),
        },
    )  # fmt: skip
    properties = Tree.SubElement(suite, "properties")
    for name, value in _properties(record):
        Tree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    for verdict in record.verdicts:
        _case(suite, verdict)
    Tree.SubElement(suite, "system-out").text = _clean("\n".join(_said(verdict) for verdict in record.verdicts))
    Tree.SubElement(suite, "system-err").text = _clean("\n".join(record.notes))
    Tree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Tree.tostring(root, encoding="unicode")}\n'


def _case(suite: Tree.Element, verdict: CheckVerdict) -> None:
    """A verdict that only warns is a passed test: its words are in system-out."""
    about = {"name": _token(verdict.name), "classname": f"{PACKAGE}.{SUITE}.{verdict.check}", "time": "0"}
    case = Tree.SubElement(suite, "testcase", about)
    if verdict.status == "PASS" or verdict.severity == "warn":
        return
    kind = "failure" if verdict.status == "FAIL" else "error"
    child = Tree.SubElement(case, kind, {"type": verdict.status, "message": _clean(verdict.why)})
    child.text = _clean(_said(verdict))


def _properties(record: CheckRecord) -> list[tuple[str, str]]:
    data = record.data
    rows = [("edgeft", record.edgeft), ("status", record.status), ("device", record.device), ("how", record.how)]
    for role, side in (("candidate", record.candidate), ("baseline", record.baseline)):
        rows += [(role, side.path), (f"{role}.sha256", side.sha256), (f"{role}.runtime", side.runtime)]
        rows += [(f"{role}.signer", side.signer)] if side.signer else []
    if data is not None:
        rows += [("data", data.path), ("data.n", str(data.n)), ("data.digest", data.digest)]
    return [*rows, *((f"left-out.{row.check}", row.why) for row in record.left_out)]


def _said(verdict: CheckVerdict) -> str:
    limit = f" [limit: {limit_text(verdict)}]" if verdict.limit_from else ""
    warn = " (warns only)" if verdict.severity == "warn" else ""
    parts = "".join(f"\n  {part.status} {part.subgroup or 'the whole'}: {part.why}" for part in verdict.parts)
    return f"{verdict.status}{warn} {verdict.name}: {verdict.why}{limit}{parts}"


def _token(text: str) -> str:
    """Without line ends and double spaces, as xs:token asks."""
    return " ".join(_clean(text).split()) or "unnamed"


def _clean(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)
