"""`edgeft check` as a user runs it: what is decided, on what, and with which exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft import cli
from tests.check import kit
from tests.check.conftest import Ask

pytestmark = pytest.mark.ml


def verdict(record: dict[str, Any], check: str) -> dict[str, Any]:
    """The one verdict of a kind."""
    found: list[dict[str, Any]] = [row for row in record["verdicts"] if row["check"] == check]
    assert len(found) == 1
    return found[0]


def test_a_copy_with_other_bytes_passes_everything(world: Path, short: None, ask: Ask) -> None:
    code, record = ask("same --baseline base --data test.csv --latency-margin 60%")
    assert (code == 0 and record["status"] == "PASS") or kit.disturbed(record)
    assert not record["identical"]
    assert [row["check"] for row in record["verdicts"]] == ["accuracy", "latency", "size"]
    accuracy = verdict(record, "accuracy")
    assert accuracy["n"] == record["data"]["n"] == 480 and accuracy["value"] == 0 < accuracy["interval"][1] < 0.01
    assert accuracy["candidate"] == accuracy["baseline"] > 75 and "0 lost, 0 gained" in accuracy["why"]
    assert accuracy["limit"] == 0.01 and accuracy["limit_from"].startswith("edgeft's default")
    latency = verdict(record, "latency")
    assert latency["interval"][0] <= latency["value"] <= latency["interval"][1] and latency["limit"] == 1.6
    assert latency["n"] <= 3 and "sessions of blocks A B B A" in latency["why"]
    assert record["outputs"].startswith("the same answer on 480 of 480 cases")


def test_what_answers_worse_fails(world: Path, texts: kit.Texts, ask: Ask) -> None:
    kit.text_bundle(world / "bad", texts, kit.worse(texts.weights, 0.3))
    code, record = ask("bad --baseline base --data test.csv --no-latency")
    assert code == 1 and verdict(record, "accuracy")["status"] == "FAIL" == record["status"]
    assert verdict(record, "accuracy")["interval"][0] > 0.01 and "at least" in verdict(record, "accuracy")["why"]
    assert [row["check"] for row in record["left_out"]] == ["latency"]
    code, record = ask("base --baseline bad --data test.csv --no-latency")
    assert code == 0, "the other way round it is an improvement"


def test_what_is_slower_fails_by_the_interval(world: Path, texts: kit.Texts, short: None, ask: Ask) -> None:
    kit.text_bundle(world / "slow", texts, slow=60)
    code, record = ask("slow --baseline base --no-accuracy --no-size")
    latency = verdict(record, "latency")
    assert (code == 1 and latency["status"] == "FAIL") or kit.disturbed(record)
    assert latency["interval"][0] > 1.05
    assert latency["candidate"] > latency["baseline"] and record["outputs"].startswith("logits differs by at most")
    assert any("synthetic" in note for note in record["notes"]), "made-up cases are said to be"
    code, record = ask("base --baseline slow --no-accuracy --no-size")
    assert (code == 0 or kit.disturbed(record)) and verdict(record, "latency")["value"] < 1


def test_what_is_larger_fails_exactly(world: Path, texts: kit.Texts, ask: Ask) -> None:
    kit.text_bundle(world / "large", texts, slow=1)
    code, record = ask("large --baseline base --no-accuracy --no-latency")
    size, files = verdict(record, "size"), [(world / name / "model.onnx").stat().st_size for name in ("large", "base")]
    assert code == 1 and size["status"] == "FAIL" and size["interval"] == [files[0], files[0]]
    needed = (files[0] - files[1]) / files[1] * 100
    assert ask(f"large --baseline base --no-accuracy --no-latency --size-margin {needed + 0.01:.4f}%")[0] == 0
    assert ask(f"large --baseline base --no-accuracy --no-latency --size-margin {needed - 0.01:.4f}%")[0] == 1


def test_an_archive_is_a_side_like_its_folder(
    world: Path, texts: kit.Texts, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgeft.ship.archive import pack

    kit.text_bundle(world / "bad", texts, kit.worse(texts.weights, 0.3))
    pack(world / "bad", world / "bad.zip")
    pack(world / "base", world / "base.zip")
    code, record = ask("bad.zip --baseline base.zip --data test.csv --no-latency")
    assert code == 1 and verdict(record, "accuracy")["status"] == "FAIL"
    assert record["candidate"]["form"] == "bundle" and record["candidate"]["path"].endswith("bad.zip")
    code, record = ask("base.zip --baseline base --data test.csv --no-latency")
    assert code == 0 and record["identical"]
    raw = (world / "base.zip").read_bytes()
    (world / "cut.zip").write_bytes(raw[: len(raw) // 2])
    capsys.readouterr()
    assert cli.main(["check", "cut.zip", "--baseline", "base", "--data", "test.csv", "--no-latency"]) == 2
    assert "cut.zip: is no bundle's archive: it is broken" in capsys.readouterr().err


def test_too_few_cases_are_inconclusive_and_say_how_many_would_do(world: Path, ask: Ask) -> None:
    code, record = ask("same --baseline base --data test.csv --cases 100 --no-latency")
    accuracy = verdict(record, "accuracy")
    assert code == 5 and accuracy["status"] == "INCONCLUSIVE" and accuracy["n"] == 100
    assert accuracy["needed_n"] == 300, "ln 0.05 / ln 0.99, and one for what the rate of gains costs"


@pytest.mark.parametrize("left", ["", "--no-latency "])
def test_what_was_not_checked_passes_nothing(left: str, world: Path, short: None, ask: Ask) -> None:
    code, record = ask(f"same --baseline base {left}--latency-margin 60%")
    assert code == 5 and verdict(record, "accuracy")["status"] == "INCONCLUSIVE"
    assert "accuracy was not checked" in verdict(record, "accuracy")["why"]
    code, record = ask(f"same --baseline base {left}--no-accuracy --latency-margin 60%")
    assert code == 0 or kit.disturbed(record)


def test_times_of_emulated_devices_are_refused(world: Path, ask: Ask) -> None:
    (world / "phone.yaml").write_text("name: phone\ntransport: emulated\nhow: emulated\narchitecture: aarch64\n")
    code, record = ask("same --baseline base --no-accuracy --device phone.yaml")
    assert code == 5 and record["how"] == "emulated" and verdict(record, "latency")["status"] == "INCONCLUSIVE"
    assert "phone is emulated" in verdict(record, "latency")["why"]
    assert ask("same --baseline base --no-accuracy --no-latency --device phone.yaml")[0] == 0


def test_an_identical_file_is_said_to_be_one_and_nothing_runs(
    world: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.copy_bundle(world / "base", world / "copy")
    monkeypatch.setattr("edgeft.ship.check.run.time_sides", lambda *_: pytest.fail("it was timed"))
    code, record = ask("copy --baseline base")
    assert code == 0 and record["identical"]
    assert all("identical file" in row["why"] for row in record["verdicts"]) and len(record["verdicts"]) == 3
    assert any("was the right one named?" in note for note in record["notes"])


def test_the_same_model_with_another_tokenizer_is_not_identical(world: Path, texts: kit.Texts, ask: Ask) -> None:
    """What decides the answers is the model and its preprocessing together."""
    from dataclasses import replace

    changed = replace(texts, tokenizer=texts.tokenizer.replace('"lowercase":true', '"lowercase":false'))
    assert changed.tokenizer != texts.tokenizer
    kit.text_bundle(world / "cased", changed)
    code, record = ask("cased --baseline base --data test.csv --no-latency")
    assert not record["identical"] and verdict(record, "accuracy")["value"] > 0
    assert any("prepare their inputs differently" in note for note in record["notes"]) and code in (1, 5)


def test_labels_in_another_order_are_compared_by_name(world: Path, texts: kit.Texts, ask: Ask) -> None:
    order = [2, 0, 1]
    kit.text_bundle(world / "turned", texts, texts.weights[:, order], [texts.labels[place] for place in order])
    code, record = ask("turned --baseline base --data test.csv --no-latency")
    assert code == 0 and "0 lost, 0 gained" in verdict(record, "accuracy")["why"]
    assert any("another order" in note for note in record["notes"])
    kit.text_bundle(world / "wrong", texts, texts.weights, [texts.labels[place] for place in order])
    code, record = ask("wrong --baseline base --data test.csv --no-latency")
    assert code == 1, "the same weights under turned labels answer something else"


def test_a_bare_model_is_fed_as_the_other_sides_bundle(world: Path, texts: kit.Texts, ask: Ask) -> None:
    kit.text_model(world / "bare.onnx", texts.weights * 1.002)
    kit.text_model(world / "odd.onnx", texts.weights * 1.003, names=("x", "m"), out="y")
    for name in ("bare", "odd"):
        code, record = ask(f"{name}.onnx --baseline base --data test.csv --no-latency")
        assert code == 0 and record["candidate"]["form"] == "model"
        assert record["candidate"]["preprocessing"] == "that of the baseline's bundle"
    assert any("in order: input_ids to x, attention_mask to m" in note for note in record["notes"])
    code, record = ask("base --baseline bare.onnx --data test.csv --no-latency")
    assert code == 0 and any("whether it was released is not known" in note for note in record["notes"])


def test_two_bare_models_by_a_recipe(world: Path, texts: kit.Texts, ask: Ask) -> None:
    """Task, preprocessing, columns and margins are the recipe's; its own data is not read."""
    for name, scale in (("new", 1.002), ("old", 1.003)):
        kit.text_model(world / f"{name}.onnx", texts.weights * scale)
    (world / "base" / "tokenizer_config.json").write_text('{"pad_token": "[PAD]"}')
    kit.write_table(world / "asked.jsonl", texts.test, ("query", "area"))
    (world / "recipe.yaml").write_text(
        "name: own\nmodel: {onnx: base/model.onnx}\n"
        f"data: {{source: csv, path: test.csv, text: query, label: area, labels: [{', '.join(texts.labels)}]}}\n"
        "serve: {length: 32}\ntargets: [{device: local-cpu}]\n"
        "gates:\n  - {metric: accuracy, no_worse_than: source, margin: 0.05}\n"
        "  - {metric: macro_f1, no_worse_than: source, margin: 0.04}\n  - {metric: artifact_mb, at_most: 9}\n"
    )
    code, record = ask("new.onnx --baseline old.onnx --recipe recipe.yaml --data asked.jsonl --no-latency")
    assert code == 0 and record["data"]["n"] == 480
    found = {row["name"]: row["limit_from"] for row in record["verdicts"] if row["check"] == "accuracy"}
    assert found == {
        "accuracy no worse than the baseline by 0.05": "gates[0] of recipe.yaml",
        "macro_f1 no worse than the baseline by 0.04": "gates[1] of recipe.yaml",
    }


def test_margins_are_the_ones_the_baseline_was_released_by(world: Path, texts: kit.Texts, ask: Ask) -> None:
    """Never those of the candidate, which could widen its own."""
    wide = "  - {metric: accuracy, no_worse_than: source, margin: 0.9}\n"
    own = "  - {metric: accuracy, no_worse_than: source, margin: 0.03}\n  - {metric: /x.py:f, at_least: 1}\n"
    kit.text_bundle(world / "wide", texts, kit.worse(texts.weights, 0.3), gates=wide)
    kit.text_bundle(world / "gated", texts, gates=own)
    code, record = ask("wide --baseline gated --data test.csv --no-latency")
    accuracy = verdict(record, "accuracy")
    assert code == 1 and accuracy["limit"] == 0.03 and "released by" in accuracy["limit_from"]
    assert any("x.py:f is code" in note for note in record["notes"]), "a bundle's code is never run"
    _, record = ask("wide --baseline gated --data test.csv --no-latency --margin 40%")
    assert verdict(record, "accuracy")["limit"] == 0.4 and verdict(record, "accuracy")["limit_from"] == "--margin"


def test_a_margin_says_who_answers_for_it(
    world: Path, texts: kit.Texts, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or that nobody does; where it is not decided, too."""
    owned = "  - {metric: accuracy, no_worse_than: source, margin: 0.03, owner: A. Hughes, justification: one in 33}\n"
    kit.text_bundle(world / "gated", texts, gates=owned)
    for cases in ("--data test.csv", ""):
        found = verdict(ask(f"same --baseline gated {cases} --no-latency")[1], "accuracy")
        assert (found["owner"], found["justification"], found["unaccounted"]) == ("A. Hughes", "one in 33", [])
        found = verdict(ask(f"same --baseline gated {cases} --no-latency --margin 0.03")[1], "accuracy")
        assert (found["owner"], found["unaccounted"]) == ("", ["owner", "justification"])
    cli.main(["check", "same", "--baseline", "gated", "--no-latency", "--markdown", "m.md", "--junit", "j.xml"])
    said = "(A. Hughes: one in 33)"
    assert said in capsys.readouterr().out and said in (world / "m.md").read_text()
    assert said in (world / "j.xml").read_text()
    cli.main(["check", "same", "--baseline", "base", "--no-latency"])
    assert (
        "edgeft's default, since nobody stated one (margin without an owner and justification)"
        in capsys.readouterr().out
    )


def test_labels_and_columns_keep_their_names_in_sentences(world: Path, texts: kit.Texts, ask: Ask) -> None:
    """A check's sentences are a gate's with `baseline` for `source`, and a label may be called so."""
    name = "the source"
    labels = (name, *texts.labels[1:])
    gate = f"  - {{metric: sensitivity_{name}, no_worse_than: source, margin: 0.4, by: {name}}}\n"
    kit.text_bundle(world / "gated", texts, gates=gate, labels=labels)
    rows = [(text, name if label == texts.labels[0] else label, name) for text, label in texts.test]
    kit.write_table(world / "named.csv", rows, ("text", "label", name))
    kit.text_bundle(world / "other", texts, texts.weights * 1.001, labels=labels)
    _, record = ask("other --baseline gated --data named.csv --no-latency")
    found = verdict(record, "accuracy")
    assert found["name"] == f"sensitivity_{name} no worse than the baseline by 0.4 in every {name}"
    assert "of the baseline on" in found["why"] and f"labelled '{name}'" in found["why"]
    assert all(f"labelled '{name}'" in part["why"] for part in found["parts"])


def test_a_gate_that_warns_stops_nothing(world: Path, texts: kit.Texts, ask: Ask) -> None:
    warn = "  - {metric: accuracy, no_worse_than: source, margin: 0.03, severity: warn}\n"
    kit.text_bundle(world / "bad", texts, kit.worse(texts.weights, 0.3))
    kit.text_bundle(world / "gated", texts, gates=warn)
    code, record = ask("bad --baseline gated --data test.csv --no-latency")
    assert code == 0 and verdict(record, "accuracy")["status"] == "FAIL" and record["status"] == "PASS"
    code, record = ask("bad --baseline gated --data test.csv --no-latency --no-size")
    assert code == 5, "nothing that blocks was decided"


def test_a_file_that_holds_its_rows_twice_shows_no_more(world: Path, texts: kit.Texts, ask: Ask) -> None:
    kit.write_table(world / "twice.csv", [*texts.test, *texts.test])
    _, once = ask("same --baseline base --data test.csv --no-latency")
    _, twice = ask("same --baseline base --data twice.csv --no-latency")
    assert twice["data"]["n"] == 960 and twice["data"]["units"] == once["data"]["units"] == 480
    # A little less: cases in units are decided on two bounds at half the error each, one case a unit on an exact one.
    assert verdict(once, "accuracy")["interval"][1] <= verdict(twice, "accuracy")["interval"][1]


def test_units_are_what_statistics_count(world: Path, texts: kit.Texts, ask: Ask) -> None:
    rows = [(text, label, f"p{place // 40}") for place, (text, label) in enumerate(texts.test)]
    kit.write_table(world / "patients.csv", rows, ("text", "label", "patient"))
    code, record = ask("same --baseline base --data patients.csv --unit patient --no-latency")
    assert code == 5 and record["data"]["units"] == 12 and record["data"]["unit"] == "patient"
    assert "in 12 units" in verdict(record, "accuracy")["why"]


def test_a_subgroup_that_gets_worse_fails_though_the_whole_passes(world: Path, texts: kit.Texts, ask: Ask) -> None:
    """The margin is of every site; the candidate answers wrongly at one of them alone."""
    by_site = "  - {metric: accuracy, no_worse_than: source, margin: 0.12, by: site}\n"
    kit.text_bundle(world / "gated", texts, gates=by_site)
    hurt = texts.labels[0]
    weights = texts.weights.copy()
    weights[:, 0] -= 1.2
    kit.text_bundle(world / "bad", texts, weights)
    rows = [
        (text, label, "a" if label == hurt and place % 3 else "b") for place, (text, label) in enumerate(texts.test)
    ]
    kit.write_table(world / "sites.csv", rows, ("text", "label", "site"))
    code, record = ask("bad --baseline gated --data sites.csv --no-latency")
    accuracy = verdict(record, "accuracy")
    parts = {part["subgroup"]: part for part in accuracy["parts"]}
    assert code == 1 and set(parts) == {"", "a", "b"} and parts["a"]["status"] == "FAIL" != parts["b"]["status"]
    assert parts["a"]["n"] + parts["b"]["n"] == parts[""]["n"] == 480
    assert (
        accuracy["name"].endswith("no worse than the baseline by 0.12 in every site") and "site 'a'" in accuracy["why"]
    )
    code, record = ask("same --baseline gated --data sites.csv --no-latency")
    assert code == 0 and {part["status"] for part in verdict(record, "accuracy")["parts"]} == {"PASS"}


def test_answers_that_change_are_a_metric_of_their_own(world: Path, texts: kit.Texts, ask: Ask) -> None:
    kit.text_bundle(world / "bad", texts, kit.worse(texts.weights, 0.1))
    code, record = ask("bad --baseline base --data test.csv --no-latency --metric flip_rate --margin 0.01")
    assert code == 1 and verdict(record, "accuracy")["name"] == "flip_rate at most 0.01"
    assert ask("same --baseline base --data test.csv --no-latency --metric flip_rate --margin 0.01")[0] == 0
    code, record = ask(
        f"same --baseline base --data test.csv --no-latency --metric auroc_{texts.labels[0]} --margin 0.05"
    )
    assert code == 0, verdict(record, "accuracy")["why"]


def test_a_rejected_baseline_is_refused_and_a_rejected_candidate_is_said(
    world: Path, texts: kit.Texts, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    kit.text_bundle(world / "refused", texts, texts.weights * 1.002, status="failed")
    words = ["check", "same", "--baseline", "refused", "--no-accuracy", "--no-latency"]
    assert cli.main(words) == 2 and "did not pass its own gates (failed)" in capsys.readouterr().err
    code, record = ask("same --baseline refused --no-accuracy --no-latency --allow-rejected")
    assert code == 0 and any("PASS means no worse than that" in note for note in record["notes"])
    code, record = ask("refused --baseline base --no-accuracy --no-latency")
    assert code == 0 and any("the candidate did not pass its own gates" in note for note in record["notes"])


def test_real_cases_are_timed_where_there_are_some(world: Path, short: None, ask: Ask) -> None:
    _, record = ask("same --baseline base --data test.csv --no-size --latency-margin 60%")
    assert any("timed on 64 of the labelled cases" in note for note in record["notes"])


def test_recorded_times_are_not_looked_at(world: Path, short: None, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record with the finest latency beside the baseline changes nothing."""
    (world / "base" / ".." / "record.json").write_text('{"latency": 0.0}')
    seen: list[float] = []
    from edgeft.ship.check import run
    from edgeft.targets.sessions import Timing

    def timed(*_: Any) -> Timing:
        seen.append(1)
        return Timing(4.0, 5.0, 1.25, (1.23, 1.27), 6, 900, "one process")

    monkeypatch.setattr(run, "time_sides", timed)
    code, record = ask("same --baseline base --no-accuracy --no-size")
    latency = verdict(record, "latency")
    assert seen and code == 1 and latency["value"] == pytest.approx(1.25)
    assert latency["interval"] == pytest.approx([1.23, 1.27])


def test_answers_that_are_no_numbers_are_an_error_of_that_side(
    world: Path, texts: kit.Texts, capsys: pytest.CaptureFixture[str]
) -> None:
    kit.text_bundle(world / "nan", texts, np.full_like(texts.weights, np.nan))
    code = cli.main(["check", "nan", "--baseline", "base", "--data", "test.csv", "--no-latency"])
    found = capsys.readouterr()
    assert code == 3 and "candidate nan" in found.err and "NaN or infinite" in found.err
