"""Records of checks with everything in them that a person, or an attacker, could put there."""

from __future__ import annotations

from edgeft.ship.check.record import CheckRecord, CheckVerdict, DataRow, LeftOut, SideRow

HOSTILE = 'a|b`c`*d*_e_[x](http://h)<img src=x>&amp; @admin #12 $x$\n# no heading ]]>"\x00\x1b\ud800'


def sample_side(path: str = "new.onnx") -> SideRow:
    """A bare model."""
    return SideRow(path=path, form="model", runtime="onnxruntime", bytes=1000, sha256="ab" * 32)


def sample_verdict(status: str = "PASS", name: str = "accuracy no worse", severity: str = "block") -> CheckVerdict:
    """An accuracy verdict."""
    return CheckVerdict.model_validate(
        {
            "check": "accuracy", "name": name, "status": status, "why": f"because of {name}", "severity": severity,
            "candidate": 90.0, "baseline": 91.0, "unit": "%", "value": 0.01, "interval": (-0.002, 0.018), "limit": 0.02,
            "limit_from": "--margin", "n": 1200, "owner": name,
        }
    )  # fmt: skip


def sample_record(*verdicts: CheckVerdict, text: str = "plain") -> CheckRecord:
    """text: put wherever a name or a sentence may stand."""
    return CheckRecord(
        edgeft="0.1.0",
        started="2026-11-25T23:58:14Z",
        seconds=12.5,
        device="local-cpu",
        how="measured",
        status="FAIL",
        candidate=sample_side(text),
        baseline=sample_side("old.onnx"),
        data=DataRow(path=text, n=1200, units=300, unit=text, digest="cd" * 32),
        verdicts=list(verdicts),
        left_out=[LeftOut(check="latency", why="--no-latency")],
        outputs=f"the same answer, {text}",
        notes=[text],
    )
