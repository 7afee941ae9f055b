"""Records the progress of real jobs: ``python -m tools.record_traces [NAME ...]``. Each job takes about a minute.

Needs ``pip install tqdm``. It runs the jobs of `tools/trace_jobs.py`. Four times a second, it records their progress
and the time left according to tqdm, in ``tests/data/traces/``. `tests/progress_traces.py` reads these files.
"""

from __future__ import annotations

import json
import platform
import sys
import threading
import time
from pathlib import Path

import tqdm  # type: ignore[import-untyped]  # it ships no annotations

from tools.trace_bar import Bar
from tools.trace_jobs import JOBS, Job

FOLDER = Path(__file__).parents[1] / "tests" / "data" / "traces"
INTERVAL_SECONDS = 0.25
#: Seconds since the job began, the number of steps done, and the seconds left according to tqdm.
Sample = tuple[float, int, float | None]


def record(job: Job) -> tuple[int, list[Sample]]:
    """Run a job, and return the number of its steps and the samples."""
    bar = Bar()
    over = threading.Event()
    samples: list[Sample] = []

    def look() -> None:
        """Take samples from the first step on. The preparation, such as starting a service, does not count."""
        bar.begun.wait()
        began_at = time.monotonic()
        while True:
            ended = over.is_set()
            left = bar.tqdms_seconds_left
            samples.append((round(time.monotonic() - began_at, 2), bar.step, left and round(left, 1)))
            if ended:
                return
            over.wait(INTERVAL_SECONDS - (time.monotonic() - began_at) % INTERVAL_SECONDS)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        job(bar)
    finally:
        bar.begun.set()
        over.set()
        thread.join()
    return bar.total_steps, samples


def write(name: str, job: Job, total_steps: int, samples: list[Sample]) -> None:
    """Write a recording as JSON, with a few samples per line."""
    lines = [json.dumps(samples[at : at + 6], separators=(",", ":"))[1:-1] for at in range(0, len(samples), 6)]
    versions = {"python": platform.python_version(), "tqdm": tqdm.__version__}
    said = {"what": job.__doc__, **versions, "total_steps": total_steps}
    head = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in said.items())
    text = f'{{{head}"samples": [\n' + ",\n".join(lines) + "\n]}\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Record the jobs named on the command line, or all jobs."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or JOBS:
        total_steps, samples = record(JOBS[name])
        assert samples[-1][1] == total_steps, f"{name} did {samples[-1][1]} of {total_steps} steps"
        write(name, JOBS[name], total_steps, samples)
        print(f"{name}: {total_steps} steps in {samples[-1][0]} seconds, {len(samples)} samples", flush=True)


if __name__ == "__main__":
    main()
