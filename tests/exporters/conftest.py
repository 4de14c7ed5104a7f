"""One tiny classifier and its float export for all exporter tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.artifact import Artifact
from tests.exporters import tiny


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny.save_classifier(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def exported(classifier: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    from edgeft_exporters.onnx.exporter import OnnxExporter

    out: Path = tmp_path_factory.mktemp("export")
    facts = OnnxExporter().export(classifier, tiny.SETTINGS, out, tiny.context(out))
    return Artifact("onnx", out, "0" * 64, facts)
