"""The child process that parses: started once, asked many times, restarted after a crash or a timeout."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import RecipeError, StepError
from edgeft.medical.limits import Limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

START_SECONDS = 120.0
MAX_ANSWER = 16 << 20
_HEADER_BYTES = 4096
_DTYPES = ("<i2", "<f4", "|u1")
_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from edgeft.medical.child import main; sys.exit(main())"


class Child:
    """One parser process under `limits`; a context manager. `ask` gives the answer and its array."""

    def __init__(self, limits: Limits, key: bytes) -> None:
        self.limits, self.key = limits, key
        self.starts = 0
        self.unlimited: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process and remove its folder."""
        self._stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def ask(self, request: dict[str, Any], files: Sequence[Path], shown: Sequence[str]) -> tuple[dict[str, Any], Any]:
        """(answer, array) of one request; `shown` are the names that errors use for `files`, the last for all of them.

        StepError names the file and says why it is refused, or that the process ended or took too long over it.
        """
        if self._process is None:
            self._start()
        line = json.dumps({**request, "files": [str(file.absolute()) for file in files]}) + "\n"
        place: int | None = None if len(files) > 1 else 0
        self._send(line.encode())
        while True:
            answer = self._receive(self.limits.seconds, shown[-1] if place is None else shown[place])
            if "at" not in answer:
                break
            place = _in_range(answer["at"], len(files))
        if answer.get("last"):
            self._stop()
        if "refused" in answer:
            place = _in_range(answer.get("file"), len(files))
            where = shown[-1] if place is None else shown[place]
            raise StepError(str(answer["refused"]), where=where, hint=str(answer.get("hint", "")))
        return answer, self._load(answer, shown[-1])

    def _start(self) -> None:
        root = Path(__file__).resolve().parents[2]
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="edgeft-medical-"))
        keep = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "TMPDIR", "TEMP", "TMP")
        environment = {name: os.environ[name] for name in keep if name in os.environ}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        # -I: no PYTHON* variables, no user site, no current folder.
        command = [sys.executable, "-I", "-B", "-c", _PROGRAM, str(root)]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.starts += 1
        settings = {"limits": self.limits.to_dict(), "key": self.key.hex(), "folder": str(self._folder)}
        self._send(json.dumps(settings).encode() + b"\n")
        ready = self._receive(START_SECONDS, "the process that parses medical files")
        self.unlimited = [str(item) for item in ready.get("unlimited", ())]

    def _send(self, line: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: the answer that is missing says so
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _receive(self, seconds: float, where: str) -> dict[str, Any]:
        """The next line; a process that gives none in time, or another thing than a line of JSON, is stopped."""
        process = self._process
        assert process is not None and process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        clock = threading.Timer(seconds, stop)
        clock.daemon = True
        clock.start()
        try:
            line = process.stdout.readline(MAX_ANSWER)
        finally:
            clock.cancel()
        try:
            answer = json.loads(line) if line.endswith(b"\n") and not late.is_set() else None
        except (ValueError, RecursionError):
            answer = None
        if isinstance(answer, dict):
            return answer
        self._stop()
        if late.is_set():
            raise StepError(f"was not read within {seconds:g} seconds: stopped", where=where, hint="it may be a bomb")
        code = process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        raise StepError(
            f"the process that read it ended early ({how})", where=where, hint="it may be damaged or a bomb"
        )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was not yet sent to a process that has ended
                    stream.close()
        for path in self._written():
            path.unlink(missing_ok=True)

    def _written(self) -> list[Path]:
        return [] if self._folder is None else list(self._folder.iterdir())

    def _load(self, answer: dict[str, Any], where: str) -> NDArray[Any]:
        """The array the answer names: a plain .npy of the announced shape, no larger than the limits."""
        import numpy as np

        name, shape = str(answer["npy"]), tuple(int(side) for side in answer["shape"])
        assert self._folder is not None
        path = self._folder / Path(name).name
        try:
            if path.is_symlink() or path.stat().st_size > self.limits.decoded + _HEADER_BYTES:
                raise ValueError("it is too large")
            values: NDArray[Any] = np.load(path, allow_pickle=False)
            if values.dtype.str not in _DTYPES or values.shape != shape or len(shape) != 3:
                raise ValueError("it is another array than announced")
        except (OSError, ValueError, EOFError) as error:
            raise StepError(f"the process that read it gave no array: {error}", where=where) from error
        finally:
            for left in self._written():
                left.unlink(missing_ok=True)
        return values


def require(package: str, what: str) -> None:
    """RecipeError with the command to run where a package of the extra `medical` is missing."""
    from importlib.machinery import PathFinder

    if PathFinder.find_spec(package) is None:
        raise RecipeError(f"{what} needs {package}, which is not installed", hint="pip install 'edgeft[medical]'")


def _in_range(place: Any, count: int) -> int | None:
    return place if isinstance(place, int) and 0 <= place < count else None
