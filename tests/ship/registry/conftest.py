"""A registry, a key it trusts, and bundles signed by it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeft.ship.keys import Signer, new_key
from edgeft.ship.registry.core import Registry
from edgeft.ship.signature import sign_folder
from tests.ship.registry.kit import make_bundle
from tests.ship.registry.s3 import ACCESS, make_bucket, s3_server

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


@pytest.fixture(scope="session")
def s3_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running S3 server."""
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as address:
        yield address


@pytest.fixture
def bucket(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """s3:// and an empty bucket, with keys in the environment as a user has them."""
    for name, value in {**ACCESS, "AWS_ENDPOINT_URL": s3_address}.items():
        monkeypatch.setenv(name, value)
    name = f"models-{uuid.uuid4().hex}"
    make_bucket(name)
    return f"s3://{name}"


@pytest.fixture(params=["folder", "memory", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty registry may lie: a folder, fsspec's memory, an S3 bucket."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/models"
    return str(tmp_path / "models") if request.param == "folder" else f"memory://{tmp_path.name}/models"


@pytest.fixture
def registry(location: str, signer: Signer) -> Registry:
    """An empty registry that trusts the release key, in a folder and in object stores."""
    made = Registry(location)
    made.trust(signer.public, "Ada", "release key")
    return made


@pytest.fixture
def local(tmp_path: Path, signer: Signer) -> Registry:
    """The same in a folder alone."""
    made = Registry(str(tmp_path / "models"))
    made.trust(signer.public, "Ada", "release key")
    return made
