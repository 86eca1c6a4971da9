# SPDX-License-Identifier: GPL-2.0
"""Which move is faster, by how many pages are moved at a time?

The kernel moves what it may in an epoch, in batches of 64 pairs that change
places or 512 pages that migrate at most: with little to be moved in an epoch,
batches are small. How large they were is traced. bench/README.md says what each
figure means.
"""
from typing import List, Sequence, Tuple

import cost
from policies import SIZE_MIB, Outcome, tiervm

Figure = Tuple[str, float, str]       # metric, value, unit

WORKLOAD = "hotset"
METHODS = ("migrate", "exchange")
# At the default rate and epoch, batches are as large as they may be.
EPOCH_MS = 20
RATES_MBPS = (1, 3, 10, 30, 128)
FAST_RATES_MBPS = (1, 128)
ROUNDS = 16

# Promotion only: of pages that change places, both directions are traced.
BATCHES = """
cd /sys/kernel/tracing
grep -q "entries-in-buffer/entries-written: \\([0-9]*\\)/\\1 " trace
awk '/ hpl_move: .* target=0 / {
        sub(/.* done=/, ""); if ($1 > 0) { batches++; pages += $1 } }
    END { print "batches", batches + 0, pages + 0 }' trace
"""


def start(method: str, rate_mbps: int) -> str:
    """A script that switches HPlacement on, and the trace."""
    return f"""
cd /sys/kernel/tracing
echo 4096 > buffer_size_kb
echo 1 > events/tiering_range/hpl_move/enable
cd {cost.KNOBS}
echo {method} > migrate_method
echo {EPOCH_MS} > epoch_ms
echo {rate_mbps} > migrate_mbps
echo 1 > enabled
"""


def figures(outcome: Outcome, lines: Sequence[str]) -> List[Figure]:
    """Of what a guest printed."""
    for line in lines:
        outcome.take(line)
    promoted, demoted = (outcome.grown(f"hpl_{way}_done_anon")
                         for way in ("promote", "demote"))
    batches, pages = next((int(words[1]), int(words[2])) for words in
                          map(str.split, lines) if words[:1] == ["batches"])
    if not batches:
        raise tiervm.GuestError("nothing was promoted")
    return [("batch_pages", pages / batches, "pages"),
            # Promoted, in the place of as much that is demoted.
            ("move_gibs", (promoted + demoted) / 2 * cost.PAGE / (1 << 30)
             / (outcome.grown("hpl_migrate_ns") / 1e9), "GiB/s"),
            ("moved_pages", promoted, "pages"),
            ("exchanged_share",
             outcome.grown("hpl_exchanged") / max(1, promoted), "1")]


def measure(method: str, rate_mbps: int) -> Tuple[Outcome, List[Figure]]:
    """Move a hot set by a method, in a guest; raises GuestError."""
    outcome = Outcome("hplacement", WORKLOAD)
    script = cost.counted(f"--pattern hotset --reverse --size {SIZE_MIB} "
                          f"--rounds {ROUNDS}", start(method, rate_mbps),
                          BATCHES)
    lines = cost.guest(f"exchange-{method}-{rate_mbps}", script, outcome,
                       pmu=True)
    return outcome, figures(outcome, lines)
