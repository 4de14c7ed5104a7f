"""Image classification: an image in, one of the labels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import Facts, canonical_json, digest_file, digest_json
from edgeft.data.pack import image_bytes
from edgeft.task import Arrays, Score
from edgeft.tasks.classification import (
    DECISION,
    FAMILIES,
    GATED,
    METRICS,
    answers,
    checked_logits,
    score_logits,
    softmax,
)
from edgeft.tasks.image_files import pack_files
from edgeft.tasks.image_spec import FILE, PREPROCESS, VERSION, ImageServe, ImageSpec, make_spec, read_spec
from edgeft.tasks.images import plain_values, read_pixels, to_values

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


def reference_digest() -> str:
    """Of the numpy files that bring decoded slices to pixels: with other ones, all that rests on them is made anew."""
    from edgeft.medical import order, reference

    return digest_json([digest_file(Path(str(module.__file__))) for module in (order, reference)])


class ImageTask:
    """What all image tasks share: preprocessing stated in preprocess.json, and feeds by it.

    The canonical feed is `pixels`, uint8 (n, rows, columns, channels), where the artefact normalises itself, else
    `pixel_values`, float32 (n, channels, height, width).
    """

    name: str
    columns: tuple[str, ...] = ("image",)

    def prepare(
        self, model: Path, splits: Mapping[str, Path], labels: Sequence[str], serve: Mapping[str, Any], out: Path
    ) -> Facts:
        """Write preprocess.json from the model folder's preprocessor_config.json and the recipe's `serve`."""
        spec = make_spec(model, ImageServe.of(serve), whole=self.name == "segmentation")
        content = {
            "kind": "image", "version": VERSION, "task": self.name, "labels": list(labels),
            "image": spec.model_dump(mode="json"), "inputs": [asdict(spec.feed())],
        }  # fmt: skip
        if spec.medical is not None:
            content |= {"medical": spec.medical, "reference": reference_digest()}
        if serve.get("takes"):
            content["takes"] = serve["takes"]
        (out / PREPROCESS).write_bytes(canonical_json(content, indent=1))
        return {"image": spec.model_dump(mode="json"), "inputs": [spec.feed().name], "warnings": []}

    def feeds(self, rows: pa.Table, prepared: Path) -> Arrays:
        """The one canonical feed of the rows' images; `file`, too, where the artefact decodes, which then takes that
        alone: uint8 (n, longest), zeros behind each."""
        spec = read_spec(prepared)
        pixels = read_pixels(rows, spec)
        found = {spec.feed().name: to_values(pixels, spec) if spec.embed == "none" else pixels}
        if spec.embed == "bytes":
            found[FILE] = pack_files([raw for _, raw in image_bytes(rows)])
        return found

    def plain(self, feeds: Arrays, prepared: Path) -> Arrays:
        """`pixel_values` by plain numpy: what the torch model is given and an artefact's own is proven equal to."""
        return plain_values(feeds, read_spec(prepared))

    def decision(self) -> Mapping[str, Any]:
        """Softmax, then the highest; of a segmentation for each pixel."""
        return DECISION

    def spec(self, prepared: Path) -> ImageSpec:
        """The preprocessing as stated."""
        return read_spec(prepared)


class ImageClassification(ImageTask):
    """Scores and answers are those of any classifier."""

    name = "image-classification"
    metrics: tuple[str, ...] = METRICS
    gated: tuple[str, ...] = GATED
    families: tuple[str, ...] = FAMILIES
    headline = "accuracy"

    def keep(self, outputs: Arrays) -> Arrays:
        """All outputs."""
        return outputs

    def score(self, outputs: Arrays, rows: pa.Table, labels: Sequence[str]) -> Score:
        """Accuracy and macro-F1 of `logits` (n, classes)."""
        return score_logits(outputs, rows, labels)

    def probabilities(self, outputs: Arrays, labels: Sequence[str]) -> NDArray[np.float64]:
        """(n, classes): softmax in float64."""
        return softmax(checked_logits(outputs, labels))

    def answer(self, outputs: Arrays, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Per case: label, probability and the `top` three."""
        return answers(outputs, labels)
