# SPDX-License-Identifier: GPL-2.0
"""What tests of HBalloon have in common."""
import re
import time
from pathlib import Path

MIB = 1 << 20
# Well above what the kernel uses of node 1, and its reserves, which are those
# of a node of 768 MiB.
SMALL = 160 * MIB
DRIVER = "/sys/bus/virtio/drivers/virtio_hballoon"
SYSFS = f"{DRIVER}/virtio*"


class Balloon:
    """A guest with an HBalloon device."""

    def __init__(self, session):
        self.session = session
        self.sh = session.sh
        # Sizes of the nodes; one that waits for a guest has no driver yet.
        self.size = [n["size"] for n in self.nodes()]

    def nodes(self, **options):
        """What query-hballoon says of each node."""
        info, = self.session.qmp("query-hballoon", **options)
        assert not info["broken"]
        return info["nodes"]

    def set(self, *sizes, wait=True, timeout=60):
        """Set targets, one for each node or None; wait for the answers.

        Returns the events HBALLOON_DONE, in the order of the nodes.
        """
        targets = [{"node": node, "size": int(size)}
                   for node, size in enumerate(sizes) if size is not None]
        generation = self.session.qmp("hballoon-set", id="hb0",
                                      targets=targets)["generation"]
        if not wait:
            return generation
        return [self.session.event("HBALLOON_DONE", timeout,
                                   node=target["node"],
                                   generation=generation)["data"]
                for target in targets]

    def resize(self, *sizes, **options):
        """Set targets that must be reached, exactly."""
        for done in self.set(*sizes, **options):
            assert done["reason"] == "reached", done
            assert done["actual"] == done["target"]

    def actual(self):
        """What the guest can use of each node."""
        return [n["actual"] for n in self.nodes()]

    def wait_for(self, what, condition, timeout=60):
        """Until something is so that no event tells of."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, (what, self.nodes())
            time.sleep(0.05)

    def value(self, node, name):
        """A number that the driver shows in sysfs."""
        return int(self.sh(f"cat {SYSFS}/node{node}/{name}"))

    def movable(self):
        """Can compaction move what is held?"""
        return self.sh("zcat /proc/config.gz | "
                       "grep -c CONFIG_BALLOON_COMPACTION=y || true") == "1\n"

    def meminfo(self, name="MemTotal"):
        """A line of each node's meminfo, in bytes."""
        text = self.sh("cat /sys/devices/system/node/node*/meminfo")
        return [int(kb) * 1024 for kb in re.findall(rf" {name}: +(\d+)",
                                                    text)]

    def vmstat(self, name):
        """A counter of /proc/vmstat."""
        return int(self.sh(f"grep '^{name} ' /proc/vmstat").split()[-1])

    def held_by_vmstat(self):
        """Bytes that are held, by the counters of /proc/vmstat."""
        return 4096 * (self.vmstat("balloon_inflate")
                       - self.vmstat("balloon_deflate"))

    def fill(self, node, mib):
        """Write to memory of a node, in tmpfs; freed by drop()."""
        self.sh(f"mkdir -p /fill{node}\n"
                f"mount -t tmpfs -o mpol=bind:{node},size=100% t /fill{node}\n"
                f"dd if=/dev/zero of=/fill{node}/f bs=1M count={mib} "
                "2> /dev/null")

    def drop(self, node):
        """Free what fill() has filled."""
        self.sh(f"umount /fill{node}")


def resident(pid):
    """Bytes of memory that a process occupies."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) * 1024
