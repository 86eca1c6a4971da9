# SPDX-License-Identifier: GPL-2.0
"""The scripts that build, where a build on this machine would not show it."""
import contextlib
import subprocess

import tiervm

LIB = tiervm.TOP / "scripts" / "tiering" / "lib.sh"


@contextlib.contextmanager
def in_bash(script, folder):
    """A script that knows lib.sh, and keeps its state in a folder."""
    with subprocess.Popen(
            ["bash", "-c", f". '{LIB}'; state='{folder}'; {script}"], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        try:
            yield running
        finally:
            running.kill()


def test_lock_may_be_taken_again(tmp_path):
    """Who installs packages twice in one go does not wait for himself."""
    with in_bash("lock apt; lock apt; echo went on", tmp_path) as twice:
        assert twice.stdout.readline() == "went on\n"


def test_lock_excludes_others(tmp_path):
    """Others wait, and say so."""
    with in_bash("lock apt; echo first; read -r", tmp_path) as first:
        assert first.stdout.readline() == "first\n"
        with in_bash("lock apt; echo second", tmp_path) as second:
            assert second.stdout.readline().startswith("waiting: ")
            assert first.poll() is None
            first.stdin.close()
            assert second.communicate(timeout=30)[0] == "second\n"
