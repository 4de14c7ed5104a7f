"""Licences of what a bundle holds and of what it needs on the device, as far as they are stated where it was built."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from edgeft.canonical import canonical_json

UNKNOWN, SEE_TEXT = "unknown", "see the text"
NAMED = re.compile(r"(licen[cs]e|copying|notice|third.?party.?notices?)([.\-_].*)?$", re.IGNORECASE)
LARGEST = 1 << 20
"""Bytes of a licence text that is copied."""
FRONT = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)


@dataclass(frozen=True)
class Licence:
    """of: what it is for. licence: SPDX id or expression where one is stated, else the words used, else `unknown`.
    stated: where that was read. files: copied texts, relative to the bundle."""

    of: str
    kind: str
    licence: str
    stated: str
    files: tuple[str, ...] = ()


def gather(
    folder: Path, model: Mapping[str, Any], source: Path, data: str | None, tools: Iterable[str]
) -> list[Licence]:
    """Copy licence texts into folder/licences/ and write licences.json.

    source: the model's own folder or file. model: what the record says of it. tools: distributions the device needs.
    """
    found = [_of_model(folder, model, source)]
    found.append(Licence("data", "data", data or UNKNOWN, "data.licence in the recipe" if data else "nowhere"))
    found += [_of_distribution(folder, name) for name in sorted(set(tools))]
    (folder / "licences.json").write_bytes(canonical_json([asdict(licence) for licence in found], indent=1))
    return found


def licence_of(about: Distribution) -> tuple[str, str]:
    """(licence, where it is stated): an expression, else a short text, else classifiers."""
    meta = about.metadata
    if "License-Expression" in meta:
        return str(meta["License-Expression"]), "License-Expression of the package"
    text = str(meta["License"]).strip() if "License" in meta else ""
    if text and len(text) <= 100 and "\n" not in text and text.upper() != "UNKNOWN":
        return text, "License of the package"
    classed = [line for line in meta.get_all("Classifier") or () if line.startswith("License ::")]
    named = [line.rpartition(" :: ")[2] for line in classed]
    return (" and ".join(named), "classifiers of the package") if named else (UNKNOWN, "nowhere")


def _of_distribution(folder: Path, name: str) -> Licence:
    try:
        about = distribution(name)
    except PackageNotFoundError:
        return Licence(name, "runtime", UNKNOWN, "not installed where the bundle was made")
    licence, stated = licence_of(about)
    texts = [
        Path(str(about.locate_file(file)))
        for file in sorted(about.files or (), key=str)
        if NAMED.fullmatch(file.name) and len(file.parts) <= 4 and ".." not in file.parts
    ]
    copied = _copy(folder, f"{name}-{about.version}", texts)
    return Licence(f"{name} {about.version}", "runtime", licence, stated, copied)


def _of_model(folder: Path, about: Mapping[str, Any], source: Path) -> Licence:
    licence, stated = licence_of_model(source)
    return Licence(str(about.get("name", "model")), "model", licence, stated, _copy(folder, "model", _texts(source)))


def licence_of_model(source: Path) -> tuple[str, str]:
    """(licence, where it is stated) of a model's folder: its README's front matter, else a file called a licence."""
    readme = source / "README.md"
    if readme.is_file():
        front = FRONT.match(readme.read_text(encoding="utf-8", errors="replace")[:20_000])
        line = re.search(r"^license:\s*(\S.*)$", front[1], re.MULTILINE) if front else None
        if line:
            return line[1].strip().strip("'\""), "README.md of the model"
    return (SEE_TEXT, "a file in the model's folder") if _texts(source) else (UNKNOWN, "nowhere")


def _texts(source: Path) -> list[Path]:
    return [path for path in sorted(source.iterdir()) if NAMED.fullmatch(path.name)] if source.is_dir() else []


def _copy(folder: Path, name: str, texts: Iterable[Path]) -> tuple[str, ...]:
    """Copies under licences/NAME/, numbered where two have one name."""
    copied: list[str] = []
    for path in texts:
        if not path.is_file() or path.stat().st_size > LARGEST:
            continue
        place = f"licences/{name}/{path.name}"
        if place in copied:
            place = f"licences/{name}/{len(copied)}-{path.name}"
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        copied.append(place)
    return tuple(copied)
