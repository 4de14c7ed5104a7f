"""The output folder: written beside the old one and swapped in whole, so that it never mixes two builds."""

from __future__ import annotations

import errno
import os
import shutil
from functools import partial
from pathlib import Path

from edgeft.errors import StoreError
from edgeft.pipeline import lock
from edgeft.pipeline.build import Build
from edgeft.pipeline.checks import preflight
from edgeft.pipeline.leftovers import aside_of, clear_leftovers, draft_of
from edgeft.record import RunRecord
from edgeft.ship.bundle import write_bundle
from edgeft.ship.contents import Contents, write_contents
from edgeft.ship.contents import Renderers as Renderers
from edgeft.ship.keys import Signer
from edgeft.ship.provenance import write_salt
from edgeft.ship.scrub import scrub
from edgeft.ship.signature import sign_folder


def write_outcome(
    build: Build,
    record: RunRecord,
    render: Renderers,
    signer: Signer | None = None,
) -> RunRecord:
    """Write report, record, resolved recipe and the chosen artefacts; returns the record with target folders filled in.

    Artefacts go to targets/ only when every gate of every target passed, to rejected/ otherwise. Only the former are
    signed.
    """
    folder = build.folder
    preflight.check_out(folder)
    fresh = draft_of(folder, os.getpid())
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        clear_leftovers(folder)
        fresh.mkdir(parents=True)
        record = _artefacts(build, record, fresh, render, signer)
        (fresh / "report.html").write_text(render.html(record), encoding="utf-8")
        (fresh / preflight.MARKER).write_bytes(render.json(record))
        (fresh / "recipe.resolved.yaml").write_text(build.loaded.resolved_yaml, encoding="utf-8")
        if build.chosen and set(build.chosen) == set(build.trials) and not build.stopped:
            (fresh / lock.FILE).write_bytes(lock.render(record.name, build.chosen))
        elif (folder / lock.FILE).is_file():
            shutil.copy2(folder / lock.FILE, fresh / lock.FILE)
        _swap(fresh, folder)
    except OSError as error:
        # A full disk is told with the file that was being copied, which is not the one that lacks room.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        raise StoreError(
            f"the outcome cannot be written: {error.strerror}",
            where=str(folder if full else error.filename or folder),
            hint="check the disk and --out",
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return record


def _artefacts(build: Build, record: RunRecord, fresh: Path, render: Renderers, signer: Signer | None) -> RunRecord:
    """The chosen artefacts; where nothing could be chosen, the float one is kept apart under rejected/."""
    refused = not build.judgement.verdicts and record.status in ("failed", "inconclusive")
    if build.stopped or not (build.judgement.verdicts or refused):
        return record
    passed = record.status == "passed"
    targets = []
    for row in record.targets:
        trial, place = build.chosen.get(row.device), f"{'targets' if passed else 'rejected'}/{row.device}"
        shown = row
        if trial is None:
            floats = [item for item in build.trials.get(row.device, []) if item.candidate.variant is None]
            trial = next((item for item in floats if item.row.status in ("eligible", "rejected")), None)
            place = f"rejected/{row.device}/float"
            shown = row.model_copy(update={"chosen": trial.row.name if trial else None})
        if trial is None or trial.artifact is None or build.executor.prepared is None:
            targets.append(row)
            continue
        contents = Contents(build, record, row, trial, trial.artifact, build.executor.prepared, render)
        write_bundle(
            fresh / place,
            trial.candidate,
            trial.artifact,
            build.executor.prepared,
            record,
            row,
            card=scrub(render.card(record, shown, contents.licence), contents.places),
            passed=passed and row.chosen is not None,
            add=partial(write_contents, contents=contents) if passed else None,
        )
        signed_by = ""
        if signer is not None and passed and row.chosen is not None:
            sign_folder(fresh / place, signer)
            signed_by = signer.id
        targets.append(row.model_copy(update={"folder": place, "signed_by": signed_by}))
    if passed and build.executor.dataset is not None:
        write_salt(fresh, build.executor.dataset)
    return record.model_copy(update={"targets": targets})


def _swap(fresh: Path, folder: Path) -> None:
    """Put the new folder in the old one's place; interrupted between the two renames, the old one comes back."""
    old = aside_of(folder, os.getpid())
    try:
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
