"""Runs one job on the target: `python worker.py job.json` in the job's folder. It never starts another process.

Standard library and numpy only, no import of edgeft; timing.py, conditions.py, probes.py, sliding.py, order.py and the
runtime's one file lie beside it. The job comes as JSON and .npz, progress goes to standard output as JSON lines,
results to result.json and outputs.npz. Whatever a library prints goes to standard error.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Progress = Callable[[float, float], None]
SEEN_LEAST = 0.2
"""Seconds between two progress lines."""


def predict(job: Mapping[str, Any], runtime: Any, progress: Progress) -> dict[str, Any]:
    """Answers to every case, in runs of exactly job['batch'] (the last one filled by repeating its last case)."""
    import numpy as np

    feeds, batch = _feeds(job), job["batch"]
    session = _load(runtime, job, "model")
    n, parts = _cases(feeds), []
    for start in range(0, n, batch):
        outputs = session.run(_rows(feeds, range(start, start + batch), n))
        kept = min(batch, n - start)
        parts.append({name: np.array(value)[:kept] for name, value in outputs.items()})
        progress(start + kept, n)
    session.close()
    names = list(parts[0]) if parts else []
    np.savez("outputs.npz", *(np.concatenate([part[name] for part in parts]) for name in names))
    return {"n": n, "outputs": names}


def slide(job: Mapping[str, Any], runtime: Any, progress: Progress) -> dict[str, Any]:
    """Class numbers of whole volumes, each of its own extents, answered window by window as job['plan'] says."""
    import numpy as np

    sliding, volumes = _beside("sliding"), _feeds(job)
    session, plan = _load(runtime, job, "model"), sliding.Plan.of(job["plan"])

    def predict(windows: Any) -> Any:
        return session.run({job["input"]: windows.astype(job["dtype"], copy=False)})[job["output"]]

    answers = []
    for place, volume in enumerate(volumes.values()):
        tell = functools.partial(_part, progress, place, len(volumes))
        answers.append(sliding.segment(volume, plan, predict, tell))
    session.close()
    np.savez("outputs.npz", *(answer.classes for answer in answers))
    return {
        "outputs": list(volumes),
        "mean_logits": [answer.mean_logits.tolist() for answer in answers],
        "windows": [answer.windows for answer in answers],
        "skipped": [answer.skipped for answer in answers],
    }


def latency(job: Mapping[str, Any], runtime: Any, progress: Progress) -> dict[str, Any]:
    """Times of single runs over the cases in turn; see timing.time_runs. job: runs, seconds, most_warmup (optional).

    waited_seconds: how long threads of this process stood ready without a core, None where the system does not tell.
    """
    timing, about = _beside("timing"), _beside("conditions")
    session = _load(runtime, job, "model")
    run = _rotation(session, job, "feeds")
    waited = about.waited_seconds()
    more = {"most_warmup": job["most_warmup"]} if "most_warmup" in job else {}
    timed = timing.time_runs(run, job["runs"], job["seconds"], progress, read=about.reading, **more)
    now = about.waited_seconds()
    session.close()
    return {
        **timed,
        "throttled": timing.throttled(timed["sentinel_ms"]),
        "clock": about.clock(),
        "waited_seconds": None if waited is None or now is None else max(0.0, now - waited),
        "affinity": job.get("pinned", ""),
    }


def compare(job: Mapping[str, Any], runtime: Any, progress: Progress) -> dict[str, Any]:
    """Two models in one process, A B B A; see timing.compare_runs."""
    timing = _beside("timing")
    a, b = _load(runtime, job, "model"), _load(runtime, job, "other")
    runs = _rotation(a, job, "feeds"), _rotation(b, job, "other_feeds")
    result: dict[str, Any] = timing.compare_runs(*runs, job["blocks"], job["seconds"], progress)
    return {**result, "throttled": timing.throttled(result["sentinel_ms"]), "clock": _beside("conditions").clock()}


def cold(job: Mapping[str, Any], runtime: Any, progress: Progress) -> dict[str, Any]:
    """Load and first inference in this fresh process, and its peak memory. The runtime's own import is timed apart."""
    peak_memory_mb = _beside("conditions").peak_memory_mb
    rows = _rows(_feeds(job), range(job["batch"]), job["batch"])
    start = time.perf_counter_ns()
    runtime.describe()
    imported = time.perf_counter_ns()
    before = peak_memory_mb()
    loading = time.perf_counter_ns()
    session = _load(runtime, job, "model")
    loaded = time.perf_counter_ns()
    session.run(rows)
    answered = time.perf_counter_ns()
    return {
        "import_ms": (imported - start) / 1e6,
        "load_ms": (loaded - loading) / 1e6,
        "first_ms": (answered - loaded) / 1e6,
        "peak_mb": peak_memory_mb(),
        "before_mb": before,
    }


def inspect(job: Mapping[str, Any], runtime: Any, progress: Progress) -> dict[str, Any]:
    """The model's inputs and outputs, as the runtime knows them."""
    session = _load(runtime, job, "model")
    found = session.signature()
    session.close()
    return {"signature": found}


def operators(job: Mapping[str, Any], runtime: Any, progress: Progress) -> dict[str, Any]:
    """placement: backend -> nodes it really ran. operators: time of each over job['runs'] runs, by the runtime's own
    profiler, apart from every timed run; none, and `why`, where it has no profiler."""
    session = _load(runtime, job, "model")
    session.run(_rows(_feeds(job), range(job["batch"]), job["batch"]))
    found = {"placement": dict(session.placement()), "operators": [], "why": ""}
    try:
        found["operators"] = list(session.operators(job["runs"]))
    except ValueError as error:
        found["why"] = str(error)
    return found


def probe(job: Mapping[str, Any], runtime: Any, progress: Progress) -> dict[str, Any]:
    """One peak rate: `gops` of a model of job['operations'], or of numpy's BLAS, `bandwidth` (job['megabytes'])."""
    probes = _beside("probes")
    if "megabytes" in job:
        return {"bandwidth": probes.read_bandwidth(job["megabytes"]), "cache_mb": _beside("conditions").cache_mb()}
    if "model" not in job:
        return {"gops": probes.numpy_gemm(job["seconds"])}
    session, rows = _load(runtime, job, "model"), _rows(_feeds(job), range(job["batch"]), job["batch"])
    best = probes.best_seconds(lambda: session.run(rows), job["seconds"])
    session.close()
    return {"gops": job["operations"] / best / 1e9}


def describe(job: Mapping[str, Any], runtime: Any, progress: Progress) -> dict[str, Any]:
    """The machine and the runtime, as strings."""
    import numpy as np

    about = _beside("conditions")
    facts = {
        "machine": platform.machine(),
        "processor": about.processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpu_flags": " ".join(about.cpu_flags()),
        "cpus": str(os.cpu_count() or 1),
        **about.clock(),
        **runtime.describe(),
    }
    return {"facts": facts}


def preprocess(job: Mapping[str, Any], runtime: Any, progress: Progress) -> dict[str, Any]:
    """Decoded slices, each feed the bytes of one, to pixels as job['stated'] says. runtime: the reference."""
    import numpy as np

    order, slices = _beside("order"), _feeds(job)
    parts = [runtime.pixels(array.tobytes(), job["stated"], order) for array in slices.values()]
    np.savez("outputs.npz", np.stack(parts))
    return {"n": len(parts), "outputs": ["pixels"]}


KINDS = {
    kind.__name__: kind
    for kind in (predict, slide, latency, compare, cold, operators, inspect, probe, describe, preprocess)
}


def _load(runtime: Any, job: Mapping[str, Any], role: str) -> Any:
    return runtime.load(job[role], job.get("options", {}))


def _feeds(job: Mapping[str, Any], key: str = "feeds") -> dict[str, Any]:
    import numpy as np

    with np.load(job[key]["file"], allow_pickle=False) as archive:
        return {name: archive[f"arr_{index}"] for index, name in enumerate(job[key]["names"])}


def _cases(feeds: Mapping[str, Any]) -> int:
    return len(next(iter(feeds.values()))) if feeds else 0


def _rows(feeds: Mapping[str, Any], wanted: range, n: int) -> dict[str, Any]:
    """Rows `wanted` of every feed; indices past the last case repeat it."""
    import numpy as np

    rows = [min(index, n - 1, _cases(feeds) - 1) for index in wanted]
    return {name: np.ascontiguousarray(array[rows]) for name, array in feeds.items()}


def _part(progress: Progress, before: int, n: int, done: float, total: float) -> None:
    """Progress within one of n cases."""
    progress(before + done / total, n)


def _rotation(session: Any, job: Mapping[str, Any], key: str) -> Callable[[], Any]:
    """A run of the next batch of real cases each time; batches are cut before the clock starts."""
    feeds, batch = _feeds(job, key), job["batch"]
    n = _cases(feeds)
    batches = [_rows(feeds, range(start, start + batch), n) for start in range(0, n, batch)]
    turn = itertools.cycle(batches)
    return lambda: session.run(next(turn))


def _beside(name: str) -> Any:
    """A module from this file's own folder; dataclasses look their module up among the loaded ones."""
    if name not in sys.modules:
        sys.path.insert(0, str(Path(__file__).parent))
        try:
            importlib.import_module(name)
        finally:
            sys.path.pop(0)
    return sys.modules[name]


def _module(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _reporter(fd: int) -> Progress:
    last = 0.0

    def report(done: float, total: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SEEN_LEAST or done >= total:
            last = now
            os.write(fd, (json.dumps({"done": done, "total": total}) + "\n").encode())

    return report


def main(argv: list[str]) -> int:
    """Run the job; result.json says either what came out or, with exit code 3, what the runtime refused."""
    out = os.dup(1)
    os.dup2(2, 1)
    job = json.loads(Path(argv[1]).read_text(encoding="utf-8"))
    try:
        if job.get("affinity"):  # before the runtime starts its threads, which inherit it
            job["pinned"] = _beside("conditions").pin(job["affinity"])
        result = KINDS[job["kind"]](job, _module(job["runtime"]), _reporter(out))
    except Exception as error:  # noqa: BLE001  whatever a runtime raises goes to the host as a sentence
        result = {"error": f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)}
    Path("result.json").write_text(json.dumps(result), encoding="utf-8")
    return 3 if "error" in result else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
