"""An object store that speaks S3 over HTTP on this machine: moto's server, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ACCESS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
    "AWS_EC2_METADATA_DISABLED": "true",  # no search for keys at the address of a cloud's machines
}
STARTS_WITHIN = 60.0


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """Its address, for AWS_ENDPOINT_URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=out, stderr=out,
            env={**os.environ, "MOTO_DISABLE_GLOBAL_CORS": "true"},
        )  # fmt: skip
    try:
        until = time.monotonic() + STARTS_WITHIN
        while True:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"moto's server did not start: {log.read_text()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def make_bucket(name: str) -> None:
    """An empty one, under the address and keys of the environment."""
    import s3fs

    s3fs.S3FileSystem().mkdir(name)
