"""Language models are scored by their next tokens: as torch does it, in chunks as in one piece, and never in padding."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from edgeft.errors import StepError
from edgeft.task import TOKEN_ANSWERS, UNSCORED, SelfSupervisedTask, cases_per_chunk, keep_answers
from edgeft.tasks.text_generation import TextGeneration

TASK = TextGeneration()
VOCABULARY = 11


def made(n: int = 6, length: int = 8, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """(feeds, outputs) of n texts of 2 to `length` tokens, padded on the right with a token that also occurs in them."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, length + 1, n)
    mask = (np.arange(length)[None] < counts[:, None]).astype(np.int64)
    ids = np.where(mask != 0, rng.integers(0, VOCABULARY, (n, length)), 3)
    logits = rng.normal(size=(n, length, VOCABULARY)).astype(np.float32) * 3
    return {"input_ids": ids, "attention_mask": mask}, {"logits": logits}


def rows(n: int) -> pa.Table:
    return pa.table({"text": ["a b"] * n})


def test_the_truth_of_a_token_is_the_next_one_and_padding_has_none() -> None:
    feeds = {
        "input_ids": np.array([[5, 6, 7, 3], [8, 9, 3, 3]]),
        "attention_mask": np.array([[1, 1, 1, 0], [1, 1, 0, 0]]),
    }
    assert isinstance(TASK, SelfSupervisedTask)
    assert TASK.truth(feeds).tolist() == [[6, 7, UNSCORED, UNSCORED], [9, UNSCORED, UNSCORED, UNSCORED]]


def test_scores_are_those_of_a_plain_computation() -> None:
    feeds, outputs = made()
    score = TASK.score(keep_answers(TASK, outputs, feeds), rows(6), ())
    losses: list[list[float]] = []
    hits: list[list[bool]] = []
    for case in range(6):
        real = int(feeds["attention_mask"][case].sum())
        losses.append([])
        hits.append([])
        for place in range(real - 1):
            powers = [math.exp(float(value)) for value in outputs["logits"][case, place]]
            wanted = int(feeds["input_ids"][case, place + 1])
            losses[-1].append(-math.log(powers[wanted] / math.fsum(powers)))
            hits[-1].append(powers.index(max(powers)) == wanted)
    nll = [math.fsum(each) / len(each) for each in losses]
    right = [sum(each) / len(each) for each in hits]
    assert score.cases["nll"] == pytest.approx(nll, rel=1e-6)  # float32 log-probabilities are what is stored
    assert score.cases["token_accuracy"] == pytest.approx(right, abs=1e-12)
    assert score.metrics["nll"] == pytest.approx(sum(nll) / 6, rel=1e-6)
    assert score.metrics["token_accuracy"] == pytest.approx(sum(right) / 6, abs=1e-12)
    every = [loss for each in losses for loss in each]
    assert score.metrics["perplexity"] == pytest.approx(math.exp(sum(every) / len(every)), rel=1e-6)
    assert score.correct.tolist() == [each[-1] for each in hits]


@pytest.mark.ml
def test_scores_are_those_of_torchs_cross_entropy() -> None:
    import torch

    feeds, outputs = made(n=20, length=12, seed=4)
    score = TASK.score(keep_answers(TASK, outputs, feeds), rows(20), ())
    labels = torch.from_numpy(feeds["input_ids"]).masked_fill(torch.from_numpy(feeds["attention_mask"]) == 0, -100)
    # Shifted as transformers' own loss of causal models shifts them.
    shifted, logits = labels[:, 1:], torch.from_numpy(outputs["logits"])[:, :-1]
    mean = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), shifted.reshape(-1))
    assert score.metrics["perplexity"] == pytest.approx(float(mean.exp()), rel=1e-5)
    for case in range(20):
        own = torch.nn.functional.cross_entropy(logits[case], shifted[case])
        assert score.cases["nll"][case] == pytest.approx(float(own), rel=1e-5)


def test_what_is_kept_of_chunks_is_what_is_kept_of_all() -> None:
    feeds, outputs = made(n=7)
    whole = keep_answers(TASK, outputs, feeds)
    parts = [
        keep_answers(
            TASK,
            {"logits": outputs["logits"][start : start + 3]},
            {name: array[start : start + 3] for name, array in feeds.items()},
        )
        for start in range(0, 7, 3)
    ]
    assert tuple(whole) == TOKEN_ANSWERS
    for name, array in whole.items():
        assert np.array_equal(array, np.concatenate([part[name] for part in parts])), name
        assert array.shape == (7, 8) and array.dtype == (np.float32 if name == "logprobs" else np.int32)


def test_what_stands_at_padded_tokens_changes_no_score() -> None:
    feeds, outputs = made()
    other = {"logits": outputs["logits"].copy()}
    other["logits"][feeds["attention_mask"] == 0] = 99
    ours = TASK.score(keep_answers(TASK, outputs, feeds), rows(6), ())
    theirs = TASK.score(keep_answers(TASK, other, feeds), rows(6), ())
    assert ours.metrics == theirs.metrics and np.array_equal(ours.correct, theirs.correct)


def test_large_logits_overflow_nowhere() -> None:
    feeds, outputs = made()
    score = TASK.score(keep_answers(TASK, {"logits": outputs["logits"] * 1e4}, feeds), rows(6), ())
    assert np.isfinite(score.cases["nll"]).all()


def test_a_large_vocabulary_is_answered_a_few_cases_at_a_time(tmp_path: Path) -> None:
    about = {"kind": "text", "length": 64, "inputs": ["input_ids", "attention_mask"]}
    (tmp_path / "preprocess.json").write_text(json.dumps(about))
    plain = cases_per_chunk(tmp_path)
    (tmp_path / "preprocess.json").write_text(json.dumps({**about, "vocabulary": 150_000}))
    few = cases_per_chunk(tmp_path)
    assert few < plain and 1 <= few * 64 * 150_000 * 4 <= 512 << 20
    (tmp_path / "preprocess.json").write_text(json.dumps({**about, "length": 8192, "vocabulary": 150_000}))
    assert cases_per_chunk(tmp_path) == 1


REFUSED = [
    ({"logits": np.zeros((6, VOCABULARY))}, r"logits have shape \(6, 11\), \(6, 8, vocabulary\) is expected"),
    ({"logits": np.full((6, 8, VOCABULARY), np.nan)}, "6 of 6 cases are NaN or infinite"),
    ({"other": np.zeros(6)}, "no `logits`, only other"),
]


@pytest.mark.parametrize(("outputs", "what"), REFUSED, ids=["shape", "finite", "name"])
def test_answers_that_cannot_be_scored_are_refused(outputs: dict[str, Any], what: str) -> None:
    with pytest.raises(StepError, match=what):
        keep_answers(TASK, outputs, made()[0])


def test_logits_alone_have_no_score() -> None:
    with pytest.raises(StepError, match="beside their feeds only"):
        TASK.score(made()[1], rows(6), ())


def test_the_tokenizer_pads_on_the_right_and_keeps_the_last_words(tiny_llama: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "model", tmp_path / "prepared"
    folder.mkdir()
    out.mkdir()
    for file in ("tokenizer.json", "config.json"):
        (folder / file).write_bytes((tiny_llama / file).read_bytes())
    config = json.loads((tiny_llama / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "left"}))
    facts = TASK.prepare(folder, {}, (), {"length": 8}, out)
    assert facts["pad"] == {"token": "</s>", "id": 1, "side": "right", "substitute": True}
    assert json.loads((out / "preprocess.json").read_text())["vocabulary"] == 600
    feeds = TASK.feeds(pa.table({"text": ["one", "a text of many more words than eight, and its end"]}), out)
    assert feeds["attention_mask"][0].tolist()[:1] == [1] and feeds["attention_mask"][0, -1] == 0
    assert feeds["input_ids"][:, 0].tolist() == [0, 0]  # the beginning of text, also where its words are cut off
    from tokenizers import Tokenizer

    assert Tokenizer.from_file(str(out / "tokenizer.json")).decode(feeds["input_ids"][1].tolist()).endswith("its end")


def test_a_text_without_a_next_token_is_refused_with_its_row(tiny_llama: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "gate.parquet", tmp_path / "prepared"
    out.mkdir()
    parquet.write_table(pa.table({"id": ["17", "18"], "text": ["two words", ""]}), path)
    with pytest.raises(StepError, match=r"1 texts have fewer than 2 tokens, so no next token: in gate rows 18"):
        TASK.prepare(tiny_llama, {"gate": path}, (), {"length": 8}, out)


def test_a_tokenizer_larger_than_the_models_vocabulary_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "model", tmp_path / "prepared"
    folder.mkdir()
    out.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((tiny_llama / file).read_bytes())
    config = json.loads((tiny_llama / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 500}))
    with pytest.raises(StepError, match="the tokenizer has 600 tokens, the model's vocabulary 500"):
        TASK.prepare(folder, {}, (), {"length": 8}, out)
