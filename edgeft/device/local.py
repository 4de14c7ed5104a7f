"""This machine as a device: each job a fresh process in a folder of its own."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from edgeft.device.jobs import ENVIRONMENT, read_result, write_job
from edgeft.device.process import run_process
from edgeft.device.protocol import Job, OnProgress, Result
from edgeft.device.workspace import job_folder

if TYPE_CHECKING:
    from edgeft.device.profile import Device


class LocalTransport:
    """Runs jobs with this interpreter. python: another one (a device's own environment)."""

    def __init__(self, device: Device | None = None, python: str | None = None) -> None:
        unit = device.unit if device is not None else None
        self.python = python or (unit.python if unit is not None else None) or sys.executable

    def run(self, job: Job, on_progress: OnProgress) -> Result:
        """Write the job's folder, run the worker in it, read what it left; the folder is removed in any case."""
        with job_folder() as folder:
            write_job(job, folder)
            command = [self.python, "-P", "-u", "worker.py", "job.json"]
            code = run_process(command, job, folder, on_progress, env={**os.environ, **ENVIRONMENT})
            return read_result(job, folder, code, install=f"{self.python} -m pip install")
