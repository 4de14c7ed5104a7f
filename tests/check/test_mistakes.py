"""What a user gets wrong is a sentence with a place and a remedy, before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft import cli
from tests.check import kit

pytestmark = pytest.mark.ml
FAST = "--no-latency"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("nothing --baseline base", 2, "candidate nothing: there is no such file or folder"),
        ("same --baseline nothing", 2, "baseline nothing: there is no such file or folder"),
        ("same --baseline empty", 2, "empty"),
        ("same --baseline base --no-accuracy --no-latency --no-size", 2, "nothing is left to check"),
        (f"same --baseline base --data test.csv {FAST} --margin 0", 2, "a margin of 0 is never shown"),
        (f"same --baseline base --data test.csv {FAST} --margin 5", 2, "'5' is no margin"),
        (f"same --baseline base --data test.csv {FAST} --margin 120%", 2, "'120%' is no margin"),
        (f"same --baseline base --data test.csv {FAST} --margin nan", 2, "'nan' is no margin"),
        (f"same --baseline base --data test.csv {FAST} --latency-margin=-1%", 2, "'-1%' is no margin"),
        (f"same --baseline base --data test.csv {FAST} --metric f1", 2, "known: accuracy, macro_f1"),
        (f"same --baseline base --data test.csv {FAST} --metric auroc_pandas", 2, "no label 'pandas'"),
        (f"same --baseline phone --data test.csv {FAST}", 2, "the margins that were stated are for pixel-8"),
        (f"same --baseline sited --data test.csv {FAST}", 2, "no column 'site'"),
        (f"same --baseline base --data test.csv {FAST} --cases 0", 2, "--cases: must be 1 or more"),
        (f"same --baseline base --data none.csv {FAST}", 3, "only a header, no rows"),
        (f"same --baseline base --data void.csv {FAST}", 3, "void.csv"),
        (f"same --baseline base --data hole.csv {FAST}", 3, "column 'label' is empty or missing in 2 rows: rows 4, 5"),
        (f"same --baseline base --data alien.csv {FAST}", 2, "label 'pandas' (1 rows) is not known"),
        (f"same --baseline base --data odd.csv {FAST}", 2, "--text, --label and --unit"),
        (f"same --baseline base --data test.csv {FAST} --unit patient", 2, "no column 'patient'"),
        (f"same --baseline base --data gone.csv {FAST}", 2, "--data gone.csv: there is no such file or folder"),
        (f"same --baseline base --data base {FAST}", 2, "this is no data for text-classification"),
        (f"same --baseline base --data a.txt {FAST}", 2, "'.txt' is no kind of data"),
        (f"same --baseline base {FAST} --junit nowhere/x.xml", 2, "no file can be written there"),
        (f"same --baseline base {FAST} --markdown base", 2, "no file can be written there"),
        (f"bare.onnx --baseline bare.onnx --data test.csv {FAST}", 2, "nothing says how two bare models are fed"),
        (f"pixels.onnx --baseline base --data test.csv {FAST}", 2, "candidate pixels.onnx: it takes pixels"),
        (f"renamed --baseline base --data test.csv {FAST}", 2, "only the candidate knows 'a'"),
        (f"same --baseline base {FAST} --device local-cpi", 2, "did you mean 'local-cpu'?"),
        (f"same --baseline base {FAST} --device clinic.yaml", 4, "is not at hand"),
        (f"broken.onnx --baseline base --data test.csv {FAST}", 4, "candidate broken.onnx"),
        (f"torn --baseline base {FAST}", 3, "is not the file that was bundled"),
        ("a.txt --baseline base --no-accuracy", 2, "no runtime opens a '.txt' file"),
    ],
)
def test_it_is_said(
    words: str, code: int, said: str, world: Path, texts: kit.Texts, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "empty").mkdir()
    (world / "a.txt").write_text("x")
    (world / "void.csv").write_text("")
    (world / "broken.onnx").write_bytes(b"\x08\x09broken")
    (world / "clinic.yaml").write_text("name: clinic\ntransport: carried\n")
    kit.text_model(world / "bare.onnx", texts.weights)
    kit.pixel_model(world / "pixels.onnx", texts.weights[:4], 8)
    kit.text_bundle(world / "renamed", texts, labels=["a", *texts.labels[1:]])
    kit.copy_bundle(world / "base", world / "torn")
    (world / "torn" / "model.onnx").write_bytes(b"other")
    by_site = "  - {metric: accuracy, no_worse_than: source, margin: 0.1, by: site}\n"
    kit.text_bundle(world / "sited", texts, gates=by_site)
    elsewhere = "  - {metric: accuracy, no_worse_than: source, margin: 0.1, device: pixel-8}\n"
    kit.text_bundle(world / "phone", texts, gates=elsewhere)
    few = texts.test[:3]
    kit.write_table(world / "none.csv", [])
    kit.write_table(world / "hole.csv", [*few, ("x y", ""), ("y z", "")])
    kit.write_table(world / "alien.csv", [*few, ("x y", "pandas")])
    kit.write_table(world / "odd.csv", few, ("query", "area"))
    assert cli.main(["check", *words.split()]) == code
    found = capsys.readouterr()
    assert said in found.err and "Traceback" not in found.err and found.out == ""
