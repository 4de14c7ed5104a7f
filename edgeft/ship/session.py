"""A bundle's artefact on its own runtime in this process: canonical feeds in, canonical outputs out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from edgeft.errors import StepError
from edgeft.ship.bundle import Bundle, BundleError

OWN_INPUT = frozenset({"file", "text"})
"""Inputs that hold what the user gave, byte for byte: preprocessing is in the artefact."""


class Session:
    """Open by `open_session`."""

    def __init__(self, bundle: Bundle, running: Any) -> None:
        self.bundle, self._running = bundle, running
        sizes = {spec["shape"][0] for spec in bundle.manifest["inputs"].values() if spec["shape"]}
        fixed = {size for size in sizes if isinstance(size, int)}
        self.batch: int | None = max(fixed) if fixed else None
        """Cases that one call takes, where the artefact fixes it."""

    def run(self, feeds: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Canonical outputs of one call's cases. feeds: canonical name -> (n, ...), n at most a fixed `batch`.

        name: of the input, for a message where the artefact refuses it.
        """
        manifest, count = self.bundle.manifest, len(next(iter(feeds.values())))
        with as_bundle_errors(self.bundle):
            named = {spec["name"]: served(feeds[key], spec) for key, spec in manifest["inputs"].items()}
            outputs = _run(self._running, named, name)
            return {key: outputs[spec["name"]][:count] for key, spec in manifest["outputs"].items()}


def served(feed: Any, spec: Mapping[str, Any]) -> Any:
    """A feed in the artefact's own dtype, its last case repeated to the batch where that is fixed."""
    import numpy as np

    batch = spec["shape"][0] if spec["shape"] else 1
    short = batch - len(feed) if isinstance(batch, int) else 0
    if short > 0:
        feed = np.concatenate([feed, feed[-1:].repeat(short, axis=0)])
    return feed.astype(spec["dtype"], copy=False)


@contextmanager
def open_session(bundle: Bundle) -> Iterator[Session]:
    """The artefact, loaded with the threads it was gated with, and closed again."""
    from edgeft import plugins

    manifest = bundle.manifest
    runtime = plugins.load("runtimes", manifest["runtime"])
    with as_bundle_errors(bundle):
        running = runtime.load(str(bundle.folder / manifest["model"]), {"threads": manifest["threads"]})
    try:
        yield Session(bundle, running)
    finally:
        running.close()


@contextmanager
def as_bundle_errors(bundle: Bundle) -> Iterator[None]:
    """What a runtime says of a model or feeds that it does not take: the manifest is not the one that was written."""
    runtime = bundle.manifest["runtime"]
    try:
        yield
    except ImportError as error:
        what = f"{runtime}, which this bundle needs, is not installed: {error}"
        raise BundleError(what, where=str(bundle.folder), hint="`edgeft doctor` says how to install it") from error
    except (ValueError, TypeError, KeyError) as error:
        said = f"no tensor {error}" if isinstance(error, KeyError) else str(error)
        what = f"{runtime} cannot run it as its manifest says: {said[:300]}"
        raise BundleError(what, where=str(bundle.folder), hint="build the bundle anew") from error


def _run(running: Any, named: Mapping[str, Any], text: str) -> Mapping[str, Any]:
    """The artefact's outputs; StepError with its own words where it decodes the input itself and refuses it."""
    try:
        outputs: Mapping[str, Any] = running.run(named)
    except ValueError as error:
        if not OWN_INPUT & named.keys():
            raise
        what = f"the artefact does not take it: {error}"
        raise StepError(what, where=text[:80], hint="model_card.md and preprocess.json say what it takes") from error
    return outputs
