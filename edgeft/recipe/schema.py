"""The recipe as types: what each key means is said by its field, and `edgeft schema` prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from edgeft.gate import Gate
from edgeft.recipe.codes import LabelConcept
from edgeft.recipe.images import Expect as Expect
from edgeft.recipe.images import Preprocess as Preprocess
from edgeft.recipe.section import Section
from edgeft.stage import Stage


class Model(Section):
    """The pretrained or already fine-tuned model: `path`, `onnx` or `code`, one of the three."""

    path: str | None = Field(
        None, description="Hugging Face id or folder; package:NAME/FOLDER for one inside an installed package."
    )
    revision: str | None = Field(
        None, description="Commit of a Hugging Face id. Without it the newest is taken and recorded."
    )
    adapter: str | None = Field(None, description="Folder of an existing PEFT adapter for `path`.")
    onnx: str | None = Field(None, description="An ONNX file: nothing trains, it is compressed, gated and bundled.")
    code: str | None = Field(None, description="file.py:function that builds a torch module; called with num_labels.")
    weights: str | None = Field(None, description="safetensors file for `code`; without it, see initialise.")
    initialise: bool = Field(
        False,
        description="Begin from random weights, drawn by the seed: `code` without weights, or a `path` whose folder "
        "has config.json and no weights. A step must train them.",
    )
    tokenizer: str | None = Field(
        None, description="Folder with tokenizer files (or preprocessor_config.json) when the model's own has none."
    )
    task: str = Field("text-classification", description="What the model does; decides feeds, metrics and report.")

    @model_validator(mode="after")
    def _one_form(self) -> Model:
        forms = [name for name in ("path", "onnx", "code") if getattr(self, name)]
        if len(forms) != 1:
            raise ValueError("give exactly one of path, onnx, code")
        if self.code and not self.weights and not self.initialise:
            raise ValueError("code needs weights: a safetensors file, or initialise: true to train it from scratch")
        if self.initialise and (self.weights or self.onnx or self.adapter):
            raise ValueError("initialise goes with code without weights, or with a path without adapter")
        if self.weights and not self.code:
            raise ValueError("weights goes with code")
        if self.adapter and not self.path:
            raise ValueError("adapter goes with path, the base model")
        return self


class SplitFractions(Section):
    """How rows are divided when the data has no split of its own; groups stay together."""

    train: float = Field(0.7, ge=0, lt=1, description="Fraction of the units for training.")
    validation: float = Field(0.08, ge=0, lt=1, description="Early stopping and the choice of merge.")
    calibration: float = Field(0.02, ge=0, lt=1, description="Ranges of static quantisation.")
    search: float = Field(0.08, ge=0, lt=1, description="Choice among candidates.")
    gate: float = Field(0.12, gt=0, lt=1, description="Sealed until the candidate is fixed.")

    @model_validator(mode="after")
    def _sum_to_one(self) -> SplitFractions:
        total = self.train + self.validation + self.calibration + self.search + self.gate
        if abs(total - 1) > 1e-6:
            raise ValueError(f"fractions must add up to 1, they add up to {total:.4g}")
        return self


class SplitPaths(Section):
    """One file or folder per split; train may be missing when nothing trains."""

    train: str | None = Field(None, description="Training rows.")
    validation: str | None = Field(None, description="Early stopping and the choice of merge.")
    calibration: str | None = Field(None, description="Ranges of static quantisation.")
    search: str = Field(description="Choice among candidates.", examples=["search.csv"])
    gate: str = Field(description="Sealed until the candidate is fixed.", examples=["gate.csv"])


class Data(Section):
    """Rows and how they are divided five ways: train, validation, calibration, search, gate."""

    source: str = Field(
        description="csv, jsonl, parquet, huggingface, image-folder, image-masks, dicom, nifti, medmnist, python, "
        "docstrings, digits, mni-slices, mni-scans or mni-volumes.",
        examples=["csv"],
    )
    path: str | None = Field(None, description="File or folder; a hub id for huggingface; file.py:function for python.")
    paths: SplitPaths | None = Field(None, description="One path per split, instead of `path`.")
    revision: str | None = Field(None, description="Commit of a hub dataset.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the source, checked by it.")
    text: str = Field("text", description="Column with the text.")
    label: str = Field("label", description="Column with the label.")
    group: str | None = Field(None, description="Column whose equal values may not be in two splits.")
    unit: str | None = Field(
        None, description="Column that statistics count; default: group, else the row. `row` for the row."
    )
    split: str | None = Field(None, description="Column that names each row's split.")
    fractions: SplitFractions = Field(default_factory=SplitFractions, description="Used without `split` and `paths`.")
    labels: tuple[str, ...] | None = Field(None, description="Order of the labels; default: the model's, else sorted.")
    limit: int | None = Field(None, ge=50, description="Take at most this many rows (whole groups, chosen by seed).")
    expect: Expect | None = Field(None, description="What must hold of the cases; the build stops where it does not.")
    codes: dict[str, LabelConcept] = Field(
        default_factory=dict,
        description="Label -> coded concept, for the DICOM objects that `edgeft run --dicom` writes; needs `labels`.",
        examples=["{liver: {value: '10200004', scheme: SCT, meaning: Liver}}"],
    )
    licence: str | None = Field(
        None, max_length=200, description="SPDX id or name of the data's licence; goes into the bundle's provenance."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Data:
        if self.path and self.paths:
            raise ValueError("give path or paths, not both")
        if self.paths and self.split:
            raise ValueError("split (a column) and paths (one per split) exclude each other")
        if unknown := sorted(self.codes.keys() - set(self.labels or ())):
            raise ValueError(f"codes: '{unknown[0]}' is none of `labels`")
        return self


class Serve(Section):
    """The shape of one request on the device. Latency is of that."""

    batch: int = Field(1, ge=1, le=1024, description="Cases per call.")
    length: int = Field(
        64, ge=1, le=131072, description="Text: tokens per case; longer ones are cut, shorter ones padded."
    )
    height: int | None = Field(None, ge=1, le=16384, description="Images: rows; default what the model's folder says.")
    width: int | None = Field(
        None, ge=1, le=16384, description="Images: columns; default what the model's folder says."
    )
    depth: int | None = Field(
        None, ge=1, le=1024, description="Volumes: planes of the window the network sees; height and width its others."
    )
    overlap: float | None = Field(
        None, ge=0, lt=1, description="Volumes: share of a window that the next one covers again; default 0.25."
    )
    blend: Literal["gaussian", "constant"] | None = Field(
        None, description="Volumes: how much a window's voxels count where windows overlap; default gaussian."
    )
    empty: int | None = Field(
        None,
        ge=0,
        le=254,
        description="Volumes: windows with no value (0..255) above this are not run and are background. The source "
        "model runs them all, so that gates show what skipping costs. Default: every window is run.",
    )
    source: tuple[int, int] | None = Field(
        None,
        description="Images: [rows, columns] the device gives; the artefact resizes from them, antialiased bilinear. "
        "Without it the app resizes, as preprocess.json says.",
    )
    embed_preprocessing: Literal["none", "pixels", "bytes", "string"] | None = Field(
        None,
        description="What of preprocessing is in the artefact. pixels: uint8 images in, scaled and normalised inside; "
        "bytes: a JPEG or PNG file in, decoded, turned upright and resized inside, too; string: a text in, the "
        "tokenizer inside (both ONNX only, and the app needs onnxruntime-extensions); none: ready float values or "
        "token ids. Default: pixels for images, none for text.",
    )

    @model_validator(mode="after")
    def _whole_size(self) -> Serve:
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width go together")
        if self.depth is not None and self.height is None:
            raise ValueError("depth goes with height and width")
        if self.source is not None and min(self.source) < 1:
            raise ValueError("source: [rows, columns], each at least 1")
        return self


class SearchKeys(Section):
    """Search beyond the exporters' small ladder: more variants, and layers that stay in float where int8 hurts."""

    chance: float = Field(
        0.8, gt=0, lt=1,
        description="A candidate is taken only if its answers on the search set give it this chance to pass each gate "
        "of the gate set, relative to a candidate that loses nothing.",
    )  # fmt: skip
    shortlist: int = Field(12, ge=0, le=256, description="Layers left in float one at a time; 0: no mixed precision.")
    first_cases: int = Field(
        32, ge=4, description="Most search cases of what only ranks; a first look takes a quarter."
    )
    repairs: bool = Field(
        True,
        description="Try the exporter's repairs (other ranges, equalisation, bias correction) before float.",
    )
    curves: bool = Field(False, description="Also compress each shortlisted layer alone, for the report.")


class Budget(Section):
    """What a search may cost. Cached evaluations count like fresh ones, so that a resumed build decides the same."""

    evaluations: int = Field(64, ge=1, le=10_000, description="Artefacts made and run, at most.")
    minutes: float | None = Field(None, gt=0, description="Stop asking once the evaluations took this long together.")


class Target(Section):
    """A device and what to try on it."""

    device: str = Field(description="Name of a device profile, shipped or a YAML file.", examples=["local-cpu"])
    export: tuple[str, ...] = Field(("onnx",), min_length=1, description="Exporters to try.")
    optimise: Literal["latency", "size", "energy-proxy"] = Field(
        "latency",
        description="What the chosen candidate has least of; energy-proxy: processor time of a run, an estimate.",
    )
    candidates: tuple[str, ...] | None = Field(
        None, description="Only these variants, for instance [float, int8-dynamic]; docs/search.md has their names."
    )
    search: SearchKeys | None = Field(
        None, description="Search for the best artefact that passes, instead of trying the small ladder as it is."
    )
    budget: Budget | None = Field(None, description="Bounds of the search; given alone it also asks for one.")

    @property
    def searches(self) -> bool:
        """Whether a search takes the place of the small ladder."""
        return self.search is not None or self.budget is not None


class Measure(Section):
    """How long latency is measured."""

    protocol: Literal["quick", "full", "none"] = Field(
        "quick",
        description="quick: >=64 runs and >=10 s; full: >=1024 runs and >=60 s; none: no times and no memory, "
        "for builds on busy machines whose targets choose by size and whose gates are of quality and size.",
    )
    search_cases: int | None = Field(None, ge=16, description="At most this many search cases per candidate.")
    emulated_minutes: float = Field(
        5.0, gt=0, le=1440, description="Emulated devices answer as many cases of a split as fit in these minutes."
    )

    @property
    def times(self) -> bool:
        """Whether anything is timed."""
        return self.protocol != "none"


class Bundled(Section):
    """What of the data the bundle may hold."""

    golden_rows: bool = Field(
        True,
        description="Golden cases are rows of the calibration split, as given. false: built-in inputs instead, and no "
        "pictures in the bundle's report.",
    )


class Recipe(Section):
    """A whole recipe after `extends`, `--set` and environment values are resolved."""

    name: str = Field(
        pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$", description="Names the output folder.", examples=["docs-router"]
    )
    description: str = Field("", description="One line for the report.")
    extends: str | Sequence[str] | None = Field(
        None, description="Recipe(s) this one changes: edgeft:text/quickstart or a path."
    )
    env: tuple[str, ...] = Field((), description="Environment variables that ${NAME} may use in this recipe.")
    model: Model = Field(
        description="What is fine-tuned, or compressed as it is.",
        examples=["{path: sentence-transformers/all-MiniLM-L6-v2}"],
    )
    data: Data = Field(
        description="Rows and how they are divided.",
        examples=["{source: csv, path: train.csv, text: text, label: label}"],
    )
    preprocess: Preprocess | None = Field(None, description="Medical images: modality units to grey levels.")
    serve: Serve = Field(default_factory=Serve, description="The shape of one request on the device.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seeds splits, initialisation, order and dropout.")
    steps: tuple[Stage, ...] = Field(
        (), description="The trunk, in order; empty: compress, gate and bundle what is given."
    )
    baseline: Literal["thresholds", "majority"] | None = Field(
        None,
        description="A rule without a network, fitted on the train split, reported beside the model on the gate set. "
        "thresholds: segmentation, each label a band of brightness; majority: classification, the most frequent label.",
    )
    targets: tuple[Target, ...] = Field(
        min_length=1, description="The branches.", examples=["[{device: local-cpu, export: [onnx]}]"]
    )
    measure: Measure = Field(default_factory=Measure, description="How thoroughly latency is measured.")
    bundle: Bundled = Field(default_factory=Bundled, description="What goes into the bundle besides the model.")
    gates: tuple[Gate, ...] = Field(
        min_length=1,
        description="What every shipped artefact must meet.",
        examples=["[{metric: accuracy, no_worse_than: source, margin: 0.02}]"],
    )
