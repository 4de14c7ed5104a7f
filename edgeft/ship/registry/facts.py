"""What a bundle says of itself, for lists, histories and comparisons: from its manifest and the evidence in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgeft.canonical import digest_json
from edgeft.measurement import check_numbers
from edgeft.ship import verify
from edgeft.ship.registry.bundles import read_manifest
from edgeft.ship.registry.log import BUNDLES, digest
from edgeft.ship.registry.names import RegistryError
from edgeft.ship.registry.place import Place

FACTS_VERSION = 1
"""Raised when this file reads more or otherwise: indexes of another number are built anew."""
GATES, PROVENANCE, RECIPE = "gates.json", "provenance.json", "recipe.resolved.yaml"
MAX_EVIDENCE = 32 << 20
STATUSES = {"passed": "PASS", "failed": "FAIL", "inconclusive": "INCONCLUSIVE"}


class VerdictFact(BaseModel):
    """One gate's recorded answer."""

    model_config = ConfigDict(frozen=True)

    gate: str
    metric: str
    status: Literal["PASS", "FAIL", "INCONCLUSIVE"]
    severity: str = "block"
    value: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    quantity: str = ""
    limit: float | None = None


class BundleFacts(BaseModel):
    """digest: of the manifest. metrics: of the artefact on its gate set. recipe, data: digests of the resolved recipe
    and of each split; empty where the bundle does not state them. problems: evidence that could not be read."""

    model_config = ConfigDict(frozen=True)

    digest: str
    name: str
    device: str
    task: str
    candidate: str
    runtime: str
    edgeft: str
    status: str
    files: int
    bytes: int
    model_bytes: int
    labels: list[str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    recipe: str = ""
    data: dict[str, str] = Field(default_factory=dict)
    verdicts: list[VerdictFact] = Field(default_factory=list)
    metrics: dict[str, float] = Field(default_factory=dict)
    gate_cases: int | None = None
    problems: list[str] = Field(default_factory=list)

    @property
    def gate_set(self) -> str:
        """Digest of the cases that its metrics are of; empty where it is not stated."""
        return self.data.get("gate", "")


def read_facts(place: Place, name: str) -> BundleFacts:
    """Everything that is kept of one bundle. RegistryError where its manifest is gone or was changed."""
    _, manifest = read_manifest(place, name)
    files = manifest["files"]
    problems: list[str] = []
    gates = _evidence(place, name, files, GATES, problems)
    origin = _evidence(place, name, files, PROVENANCE, problems)
    scores = gates.get("gate_set") if isinstance(gates.get("gate_set"), dict) else {}
    model = str(manifest.get("model", ""))
    return BundleFacts(
        digest=name,
        **{key: str(manifest.get(key, "")) for key in ("name", "device", "task", "candidate", "runtime", "edgeft")},
        status=STATUSES.get(str(manifest.get("status")), str(manifest.get("status", "")).upper()),
        files=len(files),
        bytes=sum(row["bytes"] for row in files.values()),
        model_bytes=sum(row["bytes"] for file, row in files.items() if file == model or file.startswith(f"{model}/")),
        labels=[str(label) for label in _list(manifest.get("labels"))],
        inputs=_tensors(manifest.get("inputs")),
        outputs=_tensors(manifest.get("outputs")),
        recipe=files[RECIPE]["sha256"] if RECIPE in files else "",
        data=_splits(origin),
        verdicts=_verdicts(gates, problems),
        metrics=_numbers(scores.get("artefact") if isinstance(scores, dict) else None),
        gate_cases=scores["n"] if isinstance(scores, dict) and type(scores.get("n")) is int else None,
        problems=problems,
    )


def _evidence(place: Place, name: str, files: Mapping[str, Any], file: str, problems: list[str]) -> dict[str, Any]:
    """A JSON file of the bundle, whose hash must be the manifest's; empty where the bundle has none."""
    if file not in files:
        return {}
    try:
        raw = place.read(f"{BUNDLES}/{name}/{file}", MAX_EVIDENCE)
        if digest(raw) != files[file]["sha256"]:
            problems.append(f"{file} is not the file that was bundled")
            return {}
        return verify.parse_json(raw, "evidence", file)
    except FileNotFoundError:
        problems.append(f"{file} is missing")
    except (verify.Refused, RegistryError) as error:
        problems.append(str(error))
    return {}


def _list(value: object) -> list[Any]:
    """A list as it is, nothing for what is none: manifests and evidence can come from anywhere."""
    return value if isinstance(value, list) else []


def _tensors(rows: object) -> dict[str, str]:
    """Canonical name -> `float32 [batch, 64]`."""
    if not isinstance(rows, dict):
        return {}
    return {
        str(name): f"{row.get('dtype')} [{', '.join(map(str, _list(row.get('shape'))))}]"
        for name, row in rows.items()
        if isinstance(row, dict)
    }


def _splits(origin: Mapping[str, Any]) -> dict[str, str]:
    """Split -> digest of its rows, and `content` of the whole data set."""
    content = origin.get("content")
    found = {"content": content if isinstance(content, str) else digest_json(content)} if content else {}
    splits = origin.get("splits")
    for name, row in splits.items() if isinstance(splits, dict) else ():
        if isinstance(row, dict) and row.get("digest"):
            found[str(name)] = str(row["digest"])
    return found


def _verdicts(gates: Mapping[str, Any], problems: list[str]) -> list[VerdictFact]:
    found = []
    if not isinstance(gates.get("verdicts", []), list):
        problems.append(f"{GATES} holds no list of verdicts")
    for row in _list(gates.get("verdicts")):
        try:
            row = check_numbers(dict(row))
            keys = VerdictFact.model_fields.keys() & row.keys()
            found.append(VerdictFact.model_validate({key: row[key] for key in keys}))
        except (ValueError, TypeError):
            problems.append(f"{GATES} holds a verdict that cannot be read")
    return found


def _numbers(rows: object) -> dict[str, float]:
    if not isinstance(rows, dict):
        return {}
    return {str(name): float(value) for name, value in rows.items() if type(value) in (int, float)}
