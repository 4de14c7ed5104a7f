"""sbom.cdx.json: a CycloneDX 1.6 bill of materials that is the same bytes for the same bundle.

Written by hand: a document of four kinds of entries, held to the published schema by a test, needs no library. It has
no time of writing, and its serial number follows from its content (CycloneDX asks for a UUID, not for a random one).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from edgeft.canonical import canonical_json, digest_file, digest_json
from edgeft.ship.licences import UNKNOWN, Licence, licence_of

FILE = "sbom.cdx.json"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/schema/bom-1.6.schema.json")


def write_sbom(
    folder: Path,
    about: Mapping[str, str],
    shipped: Sequence[str],
    licences: Sequence[Licence],
    needed: Sequence[str],
    tools: Mapping[str, str],
) -> None:
    """Components: the model's and preprocessing's files (by SHA-256), what the device must have, what built it.

    about: name, device, candidate, digest, task, edgeft. shipped: names of those files in `folder`. needed:
    distributions on the device. tools: distribution -> version of what the steps used.
    """
    by_name = {licence.of.partition(" ")[0]: licence for licence in licences if licence.kind == "runtime"}
    runtime = [_library(name, tools, by_name.get(name), "required") for name in needed]
    build = [_library(name, tools, None, "excluded") for name in tools if name not in needed]
    files = [_file(name, folder / name) for name in shipped]
    model = _model(about, next((item for item in licences if item.kind == "model"), None))
    components = [*files, *runtime, *build]
    refs = sorted(item["bom-ref"] for item in [*files, *runtime])
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "edgeft", "version": about["edgeft"]}]},
            "component": model,
        },
        "components": components,
        "dependencies": [{"ref": model["bom-ref"], "dependsOn": refs}],
    }
    serial = uuid.uuid5(NAMESPACE, digest_json(body))
    (folder / FILE).write_bytes(canonical_json({**body, "serialNumber": f"urn:uuid:{serial}"}, indent=1))


def _model(about: Mapping[str, str], licence: Licence | None) -> dict[str, Any]:
    found = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{about['digest']}",
        "name": about["name"],
        "version": about["digest"][:12],
        "description": f"{about['candidate']} for {about['device']}",
        "modelCard": {"modelParameters": {"task": about["task"]}},
    }
    return {**found, **_licences(licence.licence if licence else UNKNOWN, spdx=False)}


def _file(name: str, path: Path) -> dict[str, Any]:
    digest = digest_file(path)
    return {
        "type": "file", "bom-ref": f"file:{name}", "name": name, "version": digest[:12],
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }  # fmt: skip


def _library(name: str, tools: Mapping[str, str], licence: Licence | None, scope: str) -> dict[str, Any]:
    version = tools.get(name, "")
    words = (licence.licence, licence.stated) if licence else _installed(name)
    return {
        "type": "library", "bom-ref": f"pkg:pypi/{name}@{version}", "name": name, "version": version, "scope": scope,
        "purl": f"pkg:pypi/{name}@{version.replace('+', '%2B')}",
        **_licences(words[0], spdx=words[1].startswith("License-Expression")),
    }  # fmt: skip


def _installed(name: str) -> tuple[str, str]:
    try:
        return licence_of(distribution(name))
    except PackageNotFoundError:
        return UNKNOWN, "nowhere"


def _licences(words: str, *, spdx: bool) -> dict[str, Any]:
    """CycloneDX's `licenses`: an SPDX expression where the package states one, else the words as a name."""
    if words == UNKNOWN:
        return {}
    return {"licenses": [{"expression": words}] if spdx else [{"license": {"name": words}}]}
