"""Where a bundle's data came from and who was in which split, without saying any name."""

from __future__ import annotations

import csv
import io
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact
from edgeft.canonical import digest_file, digest_json

if TYPE_CHECKING:
    from edgeft.pipeline.build import Build

SALT_FILE = "split-salt.txt"
GROUPS = "split_groups.csv"
HASH_DIGITS = 32
"""Hexadecimal digits kept of each hash: 128 bits, no two names share them by chance."""


def split_salt(dataset: Artifact) -> bytes:
    """32 bytes that follow from all rows of the data set and from nothing that a bundle or a report says.

    Derived, not drawn: the same data gives the same hashes on every machine, and whoever has the data can find it.
    """
    hasher = sha256(b"edgeft split salt 1\n")
    for path in sorted(dataset.path.glob("*.parquet")):
        hasher.update(f"{path.name} {digest_file(path)}\n".encode())
    return hasher.digest()


def name_hash(salt: bytes, name: str) -> str:
    """SHA-256 over salt and name, shortened."""
    return sha256(salt + name.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]


def groups_csv(dataset: Artifact, salt: bytes) -> str:
    """split, hash of the group, rows of it; ordered by hash."""
    from edgeft.data.table import read_split

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["split", "group", "rows"])
    for split in sorted(dataset.facts["splits"]):
        groups = Counter(read_split(dataset.path / f"{split}.parquet").column("group").to_pylist())
        writer.writerows(sorted((split, name_hash(salt, name), n) for name, n in groups.items()))
    return text.getvalue()


def provenance_json(build: Build, dataset: Artifact) -> dict[str, Any]:
    """Source, content hashes, licence, and how rows were divided, with counts and a digest of each split."""
    data, facts = build.loaded.recipe.data, dataset.facts
    found = build.executor.store.find(build.executor.keys["data"])
    content = without_names(found.material["config"]["content"]) if found else None
    return {
        "source": facts["source"],
        "content": content,
        "revision": data.revision,
        "licence": data.licence or "not stated in the recipe (data.licence)",
        "task": facts["task"],
        "labels": facts["labels"],
        "unit": facts["unit"],
        "group": data.group,
        "division": {**facts["division"], "seed": build.loaded.recipe.seed},
        "splits": facts["splits"],
        "checks": facts["checks"],
        "warnings": facts["warnings"],
        "membership": {
            "file": GROUPS,
            "hash": f"first {HASH_DIGITS} hexadecimal digits of SHA-256(salt + group in UTF-8)",
            "salt": "not in the bundle: ask the builder, who has it beside the build's report",
        },
    }


def without_names(content: Any) -> Any:
    """A source's fingerprint whose lists of [file, digest] are a count and one digest: file names may be patients'."""
    if isinstance(content, list) and content and all(isinstance(item, list) and len(item) == 2 for item in content):
        return {"files": len(content), "sha256": digest_json(content)}
    if isinstance(content, dict):
        return {key: without_names(value) for key, value in content.items()}
    return content


def write_salt(folder: Path, dataset: Artifact) -> None:
    """split-salt.txt beside the report, for the builder's eyes."""
    path = folder / SALT_FILE
    path.write_text(split_salt(dataset).hex() + "\n", encoding="ascii")
    path.chmod(0o600)
