# SPDX-License-Identifier: GPL-2.0
# What a person types; the work is done in scripts/tiering/.

S := scripts/tiering
PYTHON := /usr/bin/python3
export LINUX_SRC QEMU_SRC LLVM CONFIG JOBS PATCH

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup tree refresh kernel kernel-debug qemu builds demo bench bench-list plot shell test test-long test-host programs selftests \
	check deb series clean

help:
	@sed -n 's/^##\( \|$$\)//p' $(MAKEFILE_LIST)

## Everything generated lies in build/. Each target brings what it needs.
##
## make demo          a guest finds a program's hot memory and makes it fast; five policies compared
## make bench         the evaluation, within the hour; FAST=1: less of it, within 15 minutes; ONLY=NAME: one experiment
##                    Interrupted, it goes on where it was. Page: build/bench/report.html
## make bench-list    what the evaluation asks, and how long each answer takes
## make plot          draw the evaluation's page again, from build/results alone
## make test          all tests; ends with `N passed, N failed, N skipped`
## make shell         boot the two-tier guest to a prompt, with this machine's programs in it
##
## make setup         install the Debian packages that are missing
setup:
	@$(S)/setup.sh

## make tree          lay this repository over Linux (build/linux) and QEMU (build/qemu-src)
##                    LINUX_SRC=, QEMU_SRC=: a tarball or directory instead of Debian's package
tree:
	@$(S)/tree.sh linux
	@$(S)/tree.sh qemu

## make refresh       fold edits of upstream's files in those trees into their patches
##                    PATCH=NNNN-what.patch: where edits go that belong to no patch yet
refresh:
	@$(S)/refresh.sh linux
	@$(S)/refresh.sh qemu

## make kernel        build the guest kernel (build/kernel); LLVM=1: with clang
kernel:
	@$(S)/kernel.sh $(if $(DEBUG),debug)

## make kernel-debug  the one with KASAN, lockdep, kmemleak and fault injection (build/kernel-debug)
kernel-debug:
	@$(S)/kernel.sh debug

## make qemu          build the emulator (build/qemu)
qemu:
	@$(S)/qemu.sh

programs:
	@$(S)/setup.sh test
	@$(MAKE) -s -C bench
	@$(MAKE) -s -C tools/tiering

selftests:
	@$(S)/selftests.sh

demo: kernel qemu programs
	@$(PYTHON) bench/demo.py

bench: kernel qemu programs
	@$(PYTHON) bench/run.py $(ONLY) $(if $(FAST),--fast)

bench-list: tree
	@$(PYTHON) bench/run.py --list

plot:
	@$(PYTHON) bench/report.py build/results build/bench/report.html

shell: kernel qemu programs
	@$(PYTHON) tools/tiering/tiervm.py shell

builds:
	@$(S)/builds.sh

test: builds programs selftests
	@$(PYTHON) -m pytest -p no:cacheprovider -n auto --dist loadfile --durations=15 tools/testing/vm

## make test-long     the long tests as well
test-long: builds programs selftests
	@$(PYTHON) -m pytest -p no:cacheprovider -n auto --dist loadfile --long tools/testing/vm

## make test-host     the tests that need no guest: seconds
test-host:
	@$(S)/setup.sh kernel
	@$(S)/tree.sh linux
	@$(MAKE) -s -C tools/testing/tiering_range run

## make check         checkpatch, sparse, W=1, kernel-doc, shellcheck, flake8
check:
	@$(S)/check.sh

## make deb           the kernel as Debian packages (build/deb); CONFIG=FILE: with that configuration
deb:
	@$(S)/deb.sh

## make series        everything of ours as patches against upstream (build/series)
series:
	@$(S)/series.sh linux
	@$(S)/series.sh qemu

## make clean         remove build/; refuses while the trees in it have edits
clean:
	@$(S)/clean.sh
