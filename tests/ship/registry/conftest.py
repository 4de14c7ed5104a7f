"""A registry, a key it trusts, and bundles signed by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.ship.keys import Signer, new_key
from edgeft.ship.registry.core import Registry
from edgeft.ship.signature import sign_folder
from tests.ship.registry.kit import make_bundle

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine remembers of registries lies in the test's own folder."""
    monkeypatch.setenv("EDGEFT_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("EDGEFT_REGISTRY", raising=False)


@pytest.fixture(scope="session")
def release_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key's file; its public half lies beside it."""
    place = tmp_path_factory.mktemp("keys") / "release.pem"
    new_key(place)
    return place


@pytest.fixture
def signer(release_key: Path) -> Signer:
    """The same, loaded."""
    from edgeft.ship.keys import load_signer

    return load_signer(release_key)


@pytest.fixture
def signed(tmp_path: Path, signer: Signer) -> Make:
    """signed(seed, ...): a bundle's folder with the release key's signature."""

    def make(seed: int = 1, **changes: Any) -> Path:
        folder = tmp_path / "built" / f"{seed}-{len(list((tmp_path / 'built').glob('*')))}"
        make_bundle(folder, seed, **changes)
        sign_folder(folder, signer)
        return folder

    (tmp_path / "built").mkdir()
    return make


@pytest.fixture(params=["folder", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path, signer: Signer) -> Registry:
    """An empty registry that trusts the release key, in a folder and in an object store."""
    place = str(tmp_path / "models") if request.param == "folder" else f"memory://{tmp_path.name}/models"
    made = Registry(place)
    made.trust(signer.public, "Ada", "release key")
    return made


@pytest.fixture
def local(tmp_path: Path, signer: Signer) -> Registry:
    """The same in a folder alone."""
    made = Registry(str(tmp_path / "models"))
    made.trust(signer.public, "Ada", "release key")
    return made
