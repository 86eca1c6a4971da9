# SPDX-License-Identifier: GPL-2.0
"""Tests that are not Python: KUnit, kselftest, host tests; their results here.

Both kinds of guest tests speak KTAP, which the kernel's own parser reads.
"""
import re
import subprocess
import sys

import pytest
import tiervm
from conftest import TOP

SELFTESTS = tiervm.BUILD / "selftests" / "tiering_range"
# A disk that forgets what is written: for what is in the page cache meanwhile.
DISK = ("-blockdev", "null-co,node-name=d0,size=67108864,read-zeroes=on",
        "-device", "virtio-blk-pci,drive=d0")
KUNIT_SOURCE = TOP / "mm" / "tests" / "tiering_range_kunit.c"


def parse_ktap(lines):
    """The tree of results in a log, by the kernel's tools/testing/kunit."""
    folder = str(tiervm.BUILD / "linux" / "tools" / "testing" / "kunit")
    if folder not in sys.path:
        sys.path.append(folder)
    import kunit_parser
    return kunit_parser.parse_run_tests(lines)


def check(test):
    """Fail unless all cases passed or were skipped, and at least one passed."""
    counts = test.counts
    assert counts.failed + counts.crashed + counts.errors == 0, str(counts)
    assert counts.passed > 0, "no test case has run"


def test_kunit(guest, debug):
    """All of our KUnit suites pass, and each one has run."""
    suites = re.findall(r'\.name = "(hpl_\w+)"', KUNIT_SOURCE.read_text())
    assert suites
    result = guest("true", debug=debug, timing="off",
                   append="kunit.enable=1 kunit.filter_glob=hpl_*")
    results = parse_ktap(result.log_text.splitlines())
    check(results)
    assert sorted(t.name for t in results.subtests) == sorted(suites)


def test_kselftest(guest, debug):
    """The selftests pass inside the guest."""
    programs = sorted(p for p in SELFTESTS.glob("*")
                      if p.is_file() and p.stat().st_mode & 0o111)
    assert programs, f"{SELFTESTS} has no programs: run `make selftests`"
    for program in programs:
        path = f"/selftests/{program.name}"
        result = guest(path, files={path: str(program)}, debug=debug,
                       timing="off", timeout=600, extra=DISK, check=False)
        # Which case and which line, before what the guest printed last.
        wrong = [line for line in result.out
                 if re.search(r"not ok |# tier\S+\.c:\d+:", line)]
        assert not wrong, "\n".join(wrong)
        check(parse_ktap(result.check().out))


def test_host():
    """Tree and policy, compiled in userspace under ASan and UBSan."""
    done = subprocess.run(
        ["make", "-s", "-C", str(TOP / "tools/testing/tiering_range"), "run"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("lines, good", [
    (["KTAP version 1", "1..2", "ok 1 a", "ok 2 b # SKIP none"], True),
    (["KTAP version 1", "1..2", "ok 1 a", "not ok 2 b"], False),
    (["KTAP version 1", "1..2", "ok 1 a"], False),
    (["KTAP version 1", "1..1", "ok 1 b # SKIP none"], False),
    (["nothing"], False),
])
def test_ktap_is_judged(lines, good):
    """A failed, a missing and an absent case are told from a passed one."""
    results = parse_ktap(lines)
    if good:
        check(results)
    else:
        with pytest.raises(AssertionError):
            check(results)
