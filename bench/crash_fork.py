"""A process with the large libraries in it that forks one `edgeft` after another: a build then begins in milliseconds.

One JSON line in: {argv, cwd, env, log}. Two lines out: the child's process id, and at its end its wait status.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import tempfile
import traceback


def main() -> int:
    """Serve requests until there are no more."""
    import accelerate  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModelForSequenceClassification, Trainer  # noqa: F401

    import edgeft.pipeline.build
    import edgeft.pipeline.recorder
    import edgeft.ship.output
    from edgeft.cli import main as edgeft

    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        about = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 70  # no exit code of the command's own
            try:
                _become(about)
                code = edgeft(about["argv"])
            finally:
                _end(code)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)
    return 0


def _become(about: dict[str, object]) -> None:
    """A session of its own, so that a kill of the group reaches the build and what it started, and nothing else."""
    os.setsid()
    log = os.open(str(about["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for mine, theirs in ((null, 0), (log, 1), (log, 2)):
        os.dup2(mine, theirs)
    os.chdir(str(about["cwd"]))
    os.environ.update(about["env"])  # type: ignore[call-overload]
    tempfile.tempdir = None


def _end(code: int) -> None:
    """Leave as an interpreter does, without C++'s destructors: they wait for threads that a fork leaves behind."""
    try:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
