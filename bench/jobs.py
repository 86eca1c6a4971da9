# SPDX-License-Identifier: GPL-2.0
"""What an experiment is made of. experiments.py lists them, run.py runs them."""
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

Row = Dict[str, object]
# What a job has found, of what JSON has; "error": why it has nothing.
Outcome = Dict[str, object]


class Job(NamedTuple):
    """Something to run once, whose outcome is kept."""
    label: str                        # what a person knows it by
    spec: Dict[str, object]           # all that its outcome depends on
    seconds: float                    # expected, on one core
    run: Callable[[Callable[[str], None]], Outcome]   # is to say how far it is
    tags: Dict[str, object] = {}      # what an experiment wants to remember
    quiet: bool = False               # wants the machine for itself


Found = Sequence[Tuple[Job, Outcome]]


class Experiment(NamedTuple):
    """A question."""
    name: str
    question: str
    jobs: Callable[[bool], List[Job]]           # True: of FAST=1
    rows: Callable[[Found, bool], List[Row]]
    modelled: bool = False            # takes the timing model, so no KVM


def failed(job: Job, error: str, **more: object) -> Row:
    """A row that says why there are no figures."""
    tags = {"policy": "", "workload": "", **job.tags}
    return {"metric": "failed", **tags, "value": error, "unit": "", **more}


def listed_rows(found: Found, _fast: bool) -> List[Row]:
    """Of jobs that make rows themselves."""
    return [row for job, outcome in found for row in
            ([failed(job, outcome["error"])] if outcome.get("error")
             else outcome["rows"])]
