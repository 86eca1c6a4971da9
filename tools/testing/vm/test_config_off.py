# SPDX-License-Identifier: GPL-2.0
"""With our options off, the kernel is upstream's: not one symbol more or larger.

Builds the smallest kernel that could have HPLACEMENT and TIERING_STAT, once from
our tree with the options off and once from upstream's own text, and compares the
symbols: of what we touch, and among the long tests of vmlinux.
"""
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import tiervm

TREE = tiervm.BUILD / "linux"
PRISTINE = tiervm.BUILD / "pristine" / "linux"
# What they depend on, so that each hook is compiled, and little more.
CONFIG = """
CONFIG_64BIT=y
CONFIG_SMP=y
CONFIG_NUMA=y
CONFIG_MIGRATION=y
CONFIG_PRINTK=y
CONFIG_PROC_FS=y
CONFIG_SYSFS=y
CONFIG_VM_EVENT_COUNTERS=y
CONFIG_NUMA_BALANCING=y
CONFIG_TRANSPARENT_HUGEPAGE=y
CONFIG_TRANSPARENT_HUGEPAGE_MADVISE=y
CONFIG_LRU_GEN=y
CONFIG_DAMON=y
CONFIG_DAMON_VADDR=y
CONFIG_DAMON_PADDR=y
CONFIG_CGROUPS=y
CONFIG_MEMCG=y
"""


def call(*command, **env):
    """Run a command and return its output; its errors fail the test."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, check=False,
                          env={**os.environ, **env})
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}"
    return done.stdout


def lay_out_pristine():
    """Our tree once more, with upstream's text where we changed it.

    Unchanged files are hard links; git knows upstream's text of the others.
    """
    shutil.rmtree(PRISTINE, ignore_errors=True)
    PRISTINE.parent.mkdir(parents=True, exist_ok=True)
    call("cp", "-al", str(TREE), str(PRISTINE))
    git = ["git", f"--git-dir={tiervm.BUILD}/state/linux.git",
           f"--work-tree={TREE}"]
    for name in call(*git, "diff", "--name-only", "upstream").splitlines():
        (PRISTINE / name).unlink(missing_ok=True)
        text = subprocess.run([*git, "show", f"upstream:{name}"],
                              capture_output=True, check=False)
        if text.returncode == 0:
            (PRISTINE / name).write_bytes(text.stdout)
            shutil.copymode(TREE / name, PRISTINE / name)
    for name in (tiervm.BUILD / "state/linux/overlay").read_text().splitlines():
        (PRISTINE / name).unlink()


def parts():
    """What we may change: folders whose Makefile we add to, as `mm/`, and the
    objects of other files of upstream's with a hook.
    """
    changed = [Path(name) for name in call(
        "git", f"--git-dir={tiervm.BUILD}/state/linux.git",
        f"--work-tree={TREE}", "diff", "--name-only", "upstream").splitlines()]
    folders = {path.parent for path in changed if path.name == "Makefile"}
    objects = {path.with_suffix(".o") for path in changed
               if path.suffix == ".c" and not folders & set(path.parents)}
    return sorted([f"{folder}/" for folder in folders] + list(map(str, objects)))


def build(tree, config, what):
    """Build vmlinux, or some folders and objects; return the files made."""
    out = tree.parent / f"kernel-off-{'all' if what == 'vmlinux' else 'part'}"
    out.mkdir(exist_ok=True)
    # Relative paths are the same for both trees, so that ccache, if it is
    # there, compiles what they have in common only once. The banner must not
    # differ either.
    env = {"CCACHE_BASEDIR": str(tree.parent), "CCACHE_NOHASHDIR": "1",
           "KBUILD_BUILD_TIMESTAMP": "2024-01-01", "KBUILD_BUILD_VERSION": "1"}
    make = ["nice", "-n", "5", "make", "-s", "-C", str(tree), f"O={out}",
            f"-j{os.cpu_count()}", f"KCONFIG_ALLCONFIG={config}"]
    if shutil.which("ccache"):
        make.append("CC=ccache gcc")
    call(*make, "allnoconfig", **env)
    if what == "vmlinux":
        call(*make, "vmlinux", **env)
        return out, [out / "vmlinux"]
    call(*make, *what, **env)
    return out, [out / name / "built-in.a" if name.endswith("/") else out / name
                 for name in what]


def symbols(files):
    """Name, size and section of each symbol of ours or upstream's.

    Names that the compiler or linker numbered are left out: the numbers
    follow from nothing but the order of compilation.
    """
    found = []
    for line in call("nm", "-S", *map(str, files)).splitlines():
        words = line.split()
        if len(words) == 4:
            found.append((words[3], int(words[1], 16), words[2]))
    return sorted(found)


@pytest.fixture(scope="module", params=["part", "vmlinux"])
def kernels(request, tmp_path_factory):
    """Our kernel with the option off, and upstream's: (folder, files) each."""
    what = parts() if request.param == "part" else request.param
    config = tmp_path_factory.mktemp("config") / "small"
    config.write_text(CONFIG)
    ours = build(TREE, config, what)
    lay_out_pristine()
    return ours, build(PRISTINE, config, what)


def test_option_is_there_and_off(kernels):
    """The comparison is not of a kernel that could not have it anyway."""
    (ours, _), (pristine, _) = kernels
    config = (ours / ".config").read_text()
    upstreams = (pristine / ".config").read_text()
    for option in ("HPLACEMENT", "TIERING_STAT"):
        assert f"# CONFIG_{option} is not set" in config
        assert option not in upstreams
    # Else its hooks would not be compiled.
    for line in CONFIG.split():
        assert line in config.splitlines()


def test_nothing_remains(kernels):
    """Same symbols, same sizes."""
    ours, pristine = (symbols(files) for _, files in kernels)
    assert len(pristine) > 1000
    assert sorted(set(ours) ^ set(pristine)) == []
    assert ours == pristine


def test_sections_have_upstreams_sizes(kernels):
    """Nor are there nameless bytes, as strings and tables would be."""
    ours, pristine = (
        [line.split()[:3] for line in
         call("size", *map(str, files)).splitlines()[1:]]
        for _, files in kernels)
    assert ours == pristine


def test_on_has_symbols():
    """The guest kernel, with the option on, has what the others have not."""
    names = [name for name, _, _ in symbols([tiervm.BUILD / "kernel/vmlinux"])]
    assert any(name.startswith("hpl_") for name in names)
    assert "tier_section_begin" in names
