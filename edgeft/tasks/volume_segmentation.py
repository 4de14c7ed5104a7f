"""Segmentation of volumes: a network that sees a window at a time, one of the labels per voxel out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import Facts, canonical_json
from edgeft.data.spacing import COLUMN, read_spacing
from edgeft.data.table import read_split
from edgeft.data.volumes import volume_masks, volumes
from edgeft.errors import StepError
from edgeft.task import Arrays, Score
from edgeft.tasks.classification import DECISION
from edgeft.tasks.image_spec import PIXELS, PREPROCESS, VALUES
from edgeft.tasks.mask_answers import MaskTask, check_count, class_maps, confusion, read_labels, score_confusions
from edgeft.tasks.mask_metrics import MEASURED, measure_masks
from edgeft.tasks.volume_spec import make_volume_spec, read_volume_spec, volume_json
from edgeft.tasks.volume_windows import OUTSIDE, cut_masks, cut_windows, drawn_rows, is_window_table, window_rows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from edgeft.gate import Gate
    from edgeft.medical.sliding import Plan
    from edgeft.record import ExampleRow


class VolumeSegmentation(MaskTask):
    """Dice and IoU per volume, over all labels but the first, which is the background.

    A case is a whole volume: `whole` and `plan` say how it is answered window by window. Where a step wants feeds it
    gets windows: `feeds` of volumes are those of `windows`, a few of each. The canonical feed is `pixels`, uint8
    (n, depth, height, width, 1), where the artefact normalises itself, else `pixel_values`, float32
    (n, 1, depth, height, width).
    """

    name = "volume-segmentation"
    axes = 3
    columns: tuple[str, ...] = ("image",)

    def prepare(
        self, model: Path, splits: Mapping[str, Path], labels: Sequence[str], serve: Mapping[str, Any], out: Path
    ) -> Facts:
        """Write preprocess.json; of the splits only the volumes' extents are looked at. Without any the window is the
        largest volume that is known of."""
        check_count(labels)
        shapes = [volume.shape for path in splits.values() for _, volume in volumes(read_split(path))]
        largest = [max(extents) for extents in zip(*shapes, strict=True)]
        spec = make_volume_spec(model, serve, largest or [serve[name] for name in ("depth", "height", "width")])
        takes = {"takes": serve["takes"]} if serve.get("takes") else {}
        content = {**volume_json(self.name, labels, spec), **takes}
        (out / PREPROCESS).write_bytes(canonical_json(content, indent=1))
        return {"volume": spec.model_dump(mode="json"), "inputs": [spec.feed().name], "warnings": []}

    def windows(self, rows: pa.Table, prepared: Path) -> pa.Table:
        """Rows that are windows: a few of each volume, the same every time."""
        return rows if is_window_table(rows) else window_rows(rows, read_volume_spec(prepared))

    def draw_windows(self, rows: pa.Table, prepared: Path, keys: Sequence[Sequence[int]]) -> pa.Table:
        """One window of each volume, its class drawn by the row's key first."""
        return drawn_rows(rows, read_volume_spec(prepared), keys)

    def feeds(self, rows: pa.Table, prepared: Path) -> Arrays:
        """The one canonical feed of window rows; of volumes that of their `windows`."""
        spec = read_volume_spec(prepared)
        pixels = cut_windows(self.windows(rows, prepared), spec)
        if spec.embed == "pixels":
            return {PIXELS: pixels[..., None]}
        return {VALUES: spec.values(pixels[:, None])}

    def masks(self, rows: pa.Table, prepared: Path) -> NDArray[np.int64]:
        """int64 (n, depth, height, width) of window rows; -100 beyond the volume."""
        import numpy as np

        return np.stack(list(cut_masks(self.windows(rows, prepared), read_volume_spec(prepared).patch)))

    def plain(self, feeds: Arrays, prepared: Path) -> Arrays:
        """`pixel_values` by plain numpy: what the torch model is given and an artefact's own is proven equal to."""
        spec = read_volume_spec(prepared)
        if spec.embed == "none":
            return {VALUES: feeds[VALUES]}
        return {VALUES: spec.values(feeds[PIXELS][..., 0][:, None])}

    def whole(self, rows: pa.Table, prepared: Path) -> Iterator[Arrays]:
        """Each volume as the canonical feed without its batch: (depth, rows, columns, 1) or (1, ...)."""
        spec = read_volume_spec(prepared)
        for _, volume in volumes(rows):
            yield {PIXELS: volume[..., None]} if spec.embed == "pixels" else {VALUES: spec.values(volume[None])}

    def plan(self, prepared: Path, batch: int, *, whole: bool = False) -> Plan:
        """How a volume's windows are placed and blended. whole: empty ones are run, too."""
        return read_volume_spec(prepared).plan(batch, whole=whole)

    def largest(self, prepared: Path) -> tuple[int, int, int]:
        """Extents that answers of different volumes are padded to, to be one array."""
        return read_volume_spec(prepared).largest

    def keep(self, outputs: Arrays) -> Arrays:
        """classes, uint8 (n, depth, rows, columns), 0 beyond each volume; mean_logits, float32 (n, classes)."""
        return {name: outputs[name] for name in ("classes", "mean_logits")}

    def score(self, outputs: Arrays, rows: pa.Table, labels: Sequence[str]) -> Score:
        """mean_dice, mean_iou, pixel_accuracy, dice_<label>; each the mean over cases of a value per case."""
        import numpy as np

        answered = class_maps(outputs, self.axes)
        if len(answered) != rows.num_rows or not rows.num_rows:
            raise StepError(f"{len(answered)} outputs for {rows.num_rows} rows")
        counts = np.stack(
            [
                _confusion(truth, answer[_inside(truth)], len(labels))
                for truth, answer in zip(_truths(rows, answered.shape[1:]), answered, strict=True)
            ]
        )
        return score_confusions(counts, labels)

    def measure(
        self, outputs: Arrays, rows: pa.Table, labels: Sequence[str], wanted: Collection[Gate]
    ) -> Mapping[str, NDArray[np.float64]]:
        """hd95_mm, surface_dice, volume_error and volume_ml_error of the gates; a volume's masks at a time."""
        import numpy as np

        if not any(gate.metric.startswith(MEASURED) for gate in wanted):
            return {}
        answered, parts = class_maps(outputs, self.axes), []
        stated = rows.column(COLUMN).to_pylist() if COLUMN in rows.column_names else [""] * rows.num_rows
        for text, truth, answer in zip(stated, _truths(rows, answered.shape[1:]), answered, strict=True):
            known = [read_spacing(text)] if text else None
            parts.append(measure_masks(answer[_inside(truth)][None], truth[None], labels, wanted, known))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def draw(self, outputs: Arrays, rows: pa.Table, prepared: Path) -> list[ExampleRow]:
        """Worst, median and best by mean Dice, each by its plane with most voxels that are not background."""
        from edgeft.tasks.volume_pictures import draw_planes

        dice = self.score(outputs, rows, read_labels(prepared)).cases["mean_dice"]
        return draw_planes(class_maps(outputs, self.axes), dice, rows)

    def decision(self) -> Mapping[str, Any]:
        """Blend the windows' logits as preprocess.json says, then the highest."""
        return {**DECISION, "rule": f"blend the windows (preprocess.json: volume), then {DECISION['rule']}"}


def _truths(rows: pa.Table, window: Sequence[int]) -> Iterator[Any]:
    """Each row's mask: of its volume, or of its window, with OUTSIDE beyond the volume."""
    return cut_masks(rows, window) if is_window_table(rows) else (truth for _, truth in volume_masks(rows))


def _inside(truth: Any) -> tuple[slice, ...]:
    return tuple(slice(extent) for extent in truth.shape)


def _confusion(truth: Any, answer: Any, classes: int) -> NDArray[np.int64]:
    """(classes, classes) voxel counts, rows true; what is OUTSIDE is left out."""
    if truth.shape != answer.shape:
        raise StepError(f"an answer of {answer.shape} for a volume of {truth.shape}")
    known = truth != OUTSIDE if truth.dtype != "uint8" else ...
    return confusion(truth[known], answer[known], classes)
