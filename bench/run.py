#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Run the evaluation: `make bench`.

Each experiment of experiments.py is made of jobs, such as a workload under a
policy in a guest of its own; several experiments may use the same job. What a
job has found is kept, by all that it depends on: started again after an
interruption, only what is missing is run, and what failed. Results go to
RESULTS/NAME.json, from which report.py draws bench/report.html.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import experiments
import report
import policies
from experiments import Experiment, Job, Outcome
from policies import TOP, tiervm

NOT_RUN = {"error": "not run"}


def digest(paths: Sequence[Path]) -> str:
    """Of the contents of files, in the order of their names."""
    whole = hashlib.sha256()
    for path in sorted(paths):
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def built() -> str:
    """What a measurement depends on, beside its job: programs and scripts.

    run.py and what draws do not measure.
    """
    machine = tiervm.Machine()
    scripts = [path for path in (TOP / "bench").glob("*.py")
               if path.name not in ("run.py", "plot.py", "report.py")]
    programs = [tiervm.BUILD / "bench" / name for name in
                ("gups", "memtool", "tracker", *experiments.PROGRAMS)]
    return digest([Path(machine.kernel_path()), Path(machine.qemu_path()),
                   Path(tiervm.__file__), tiervm.INIT, *programs, *scripts]) + (
        f" {machine.accel} {machine.host_nodes}")


class Store:
    """What jobs have found, on disk; failures are not kept."""

    def __init__(self, folder: Path, version: str):
        self.folder = folder
        self.version = version

    def path(self, job: Job) -> Path:
        """The file of a job."""
        key = json.dumps([self.version, job.spec], sort_keys=True)
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def get(self, job: Job) -> Optional[Outcome]:
        """What was found, or None."""
        try:
            return json.loads(self.path(job).read_text())
        except (OSError, ValueError):
            return None

    def put(self, job: Job, outcome: Outcome) -> None:
        """Keep it, unless it failed."""
        if outcome.get("error"):
            return
        policies.write_whole(self.path(job), json.dumps(outcome))


class Progress:
    """How far the run is: a line for each job that ends, and one that moves."""

    def __init__(self, jobs: Sequence[Job], workers: int):
        self.left = {id(job): job for job in jobs}
        self.total = len(jobs)
        self.workers = workers
        self.running: Dict[int, str] = {}
        self.began: Dict[int, float] = {}
        self.expected = self.taken = 0.0
        self.lock = threading.Lock()
        self.moving = sys.stdout.isatty()
        self.start = time.monotonic()

    def minutes_left(self) -> float:
        """By what jobs are expected to take, and how wrong that was so far."""
        now = time.monotonic()
        pace = self.taken / self.expected if self.expected else 1.0
        seconds = sum(max(0.0, job.seconds * pace
                          - (now - self.began.get(key, now)))
                      / (1 if job.quiet else self.workers)
                      for key, job in self.left.items())
        return seconds / 60

    def _head(self) -> str:
        clear = "\r\033[K" if self.moving else ""
        return (f"{clear}[{time.monotonic() - self.start:4.0f} s, "
                f"{self.total - len(self.left)} of {self.total}, "
                f"{self.minutes_left():.0f} min left] ")

    def begin(self, job: Job) -> None:
        """A job starts."""
        with self.lock:
            self.began[id(job)] = time.monotonic()

    def update(self, job: Job, text: str) -> None:
        """A job is so far."""
        with self.lock:
            self.running[id(job)] = f"{job.label}: {text}"
            if self.moving:
                line = self._head() + " | ".join(self.running.values())
                width = os.get_terminal_size(sys.stdout.fileno()).columns
                print(line[:width + 2], end="", flush=True)

    def finish(self, job: Job, outcome: Outcome) -> None:
        """A job has ended."""
        with self.lock:
            seconds = time.monotonic() - self.began.pop(id(job))
            self.left.pop(id(job))
            self.running.pop(id(job), None)
            error = outcome.get("error")
            if not error:
                self.expected += job.seconds
                self.taken += seconds
            print(f"{self._head()}{job.label}: "
                  + (f"FAILED: {error}" if error
                     else f"done after {seconds:.0f} s"), flush=True)


class Run:
    """Some experiments, and what their jobs have found so far."""

    def __init__(self, chosen: Sequence[Experiment], fast: bool, output: Path,
                 store: Store, command: str):
        self.jobs = [(e, e.jobs(fast)) for e in chosen]
        self.fast = fast
        self.output = output
        self.store = store
        self.command = command
        self.found: Dict[Path, Outcome] = {}

    def missing(self) -> List[Job]:
        """Jobs to be run; what was kept is taken in."""
        todo: Dict[Path, Job] = {}
        for _, jobs in self.jobs:
            for job in jobs:
                path = self.store.path(job)
                kept = self.store.get(job)
                if kept is not None:
                    self.found[path] = kept
                else:
                    todo.setdefault(path, job)
        return list(todo.values())

    def take(self, job: Job, outcome: Outcome) -> None:
        """A job has ended: keep it, write the results that it belongs to."""
        path = self.store.path(job)
        self.found[path] = outcome
        self.store.put(job, outcome)
        for experiment, jobs in self.jobs:
            if any(self.store.path(other) == path for other in jobs):
                self.write(experiment, jobs)

    def write(self, experiment: Experiment, jobs: Sequence[Job]) -> None:
        """Its results, as far as there are any."""
        outcomes = [self.found.get(self.store.path(job), NOT_RUN)
                    for job in jobs]
        linux = sorted({o["linux"] for o in outcomes if o.get("linux")})
        projects = sorted({o["project"] for o in outcomes if "project" in o})
        versions = policies.versions(", ".join(linux))
        if projects:
            versions["project"] = ", ".join(projects)
        policies.write_results(
            self.output / "results" / f"{experiment.name}.json",
            experiment.name, self.command, [],
            experiment.rows(list(zip(jobs, outcomes)), self.fast),
            versions=versions, question=experiment.question)

    def write_all(self) -> None:
        """All results."""
        for experiment, jobs in self.jobs:
            self.write(experiment, jobs)

    def failed(self) -> bool:
        """Has a job no outcome?"""
        return any(self.found.get(self.store.path(job), NOT_RUN).get("error")
                   for _, jobs in self.jobs for job in jobs)


def perform(run: Run, jobs: Sequence[Job], workers: int) -> None:
    """Run jobs side by side, then those that want the machine for themselves."""
    progress = Progress(jobs, workers)
    project = policies.versions("")["project"]

    def one(job: Job) -> None:
        progress.begin(job)
        try:
            outcome = job.run(lambda text: progress.update(job, text))
        except (tiervm.GuestError, OSError, ValueError,
                subprocess.SubprocessError) as exc:
            outcome = {"error": str(exc) or repr(exc)}
        outcome = {**outcome, "project": project}
        progress.finish(job, outcome)
        with progress.lock:
            run.take(job, outcome)

    for quiet, count in ((False, workers), (True, 1)):
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            tasks = [pool.submit(one, job) for job in jobs
                     if job.quiet == quiet]
            try:
                for task in concurrent.futures.as_completed(tasks):
                    task.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def minutes(jobs: Sequence[Job], workers: int) -> float:
    """That jobs are expected to take."""
    return sum(job.seconds / (1 if job.quiet else workers)
               for job in jobs) / 60


def listing(workers: int) -> str:
    """Each experiment, what it asks and how long it takes by itself."""
    lines = [f"{'name':16}{'min':>5}{'FAST=1':>8}  question"]
    for e in experiments.EXPERIMENTS:
        full, fast = (minutes(e.jobs(fast), workers) for fast in (False, True))
        quiet = any(job.quiet for job in e.jobs(False))
        lines.append(f"{e.name:16}{full:5.0f}{fast:8.0f}  {e.question}"
                     + (" (wants a quiet machine)" if quiet else ""))
    for fast in (False, True):
        every = {json.dumps(job.spec, sort_keys=True): job
                 for e in experiments.EXPERIMENTS for job in e.jobs(fast)}
        lines.append(f"all{' with FAST=1' if fast else ''}: "
                     f"{minutes(list(every.values()), workers):.0f} min, as "
                     "several use the same guests")
    return "\n".join(lines)


def worker_count() -> int:
    """Guests side by side. By real time, they would be in each other's way."""
    return 1 if tiervm.on_kvm() else min(2, len(os.sched_getaffinity(0)))


def possible(chosen: List[Experiment]) -> List[Experiment]:
    """Without those that take the timing model, on KVM; says which."""
    if not tiervm.on_kvm():
        return chosen
    left = [e.name for e in chosen if e.modelled]
    if left:
        print("bench: left out on KVM, as they take the timing model: "
              + ", ".join(left), file=sys.stderr)
    if len(left) == len(chosen):
        raise tiervm.GuestError("nothing is left to run")
    return [e for e in chosen if not e.modelled]


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    names = [e.name for e in experiments.EXPERIMENTS]
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__,
                                     formatter_class=argparse
                                     .RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="of " + ", ".join(names) + " (default all)")
    parser.add_argument("--list", action="store_true",
                        help="say what there is and how long it takes")
    parser.add_argument("--fast", action="store_true",
                        help="fewer workloads, policies and rounds")
    parser.add_argument("--output", type=Path, default=tiervm.BUILD,
                        metavar="DIR", help="where results/ and bench/ go "
                        "(default %(default)s)")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in names]
    if unknown:
        parser.error(f"no experiment {unknown[0]}: choose from "
                     + ", ".join(names))
    return options


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run it; 0 if each job came to its end, goals reached or not."""
    options = parse(argv)
    workers = worker_count()
    if options.list:
        print(listing(workers))
        return 0
    chosen = [e for e in experiments.EXPERIMENTS
              if not options.names or e.name in options.names]
    try:
        tiervm.Machine().check()
        chosen = possible(chosen)
        policies.build()
        store = Store(options.output / "bench" / "kept", built())
    except (tiervm.GuestError, subprocess.CalledProcessError, OSError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    words = ["bench/run.py", *options.names] + ["--fast"] * options.fast
    run = Run(chosen, options.fast, options.output, store, shlex.join(words))
    jobs = run.missing()
    print(f"{len(jobs)} to run, {len(run.found)} kept from before: "
          f"{minutes(jobs, workers):.0f} minutes", flush=True)
    status = 0
    try:
        perform(run, jobs, workers)
    except KeyboardInterrupt:
        print("\nbench: interrupted; the same command goes on from here",
              file=sys.stderr)
        status = 130
    run.write_all()
    page = options.output / "bench" / "report.html"
    report.draw(options.output / "results", page)
    for experiment in chosen:
        results = options.output / "results" / f"{experiment.name}.json"
        print(f"\n{experiment.name}: {experiment.question}\n\n"
              + report.text(json.loads(results.read_text())["rows"]))
    print(f"\n{options.output / 'results'}\n{page}")
    return status or (1 if run.failed() else 0)


if __name__ == "__main__":
    # Ended by others, it says so and writes what there is, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
