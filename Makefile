# SPDX-License-Identifier: GPL-2.0
# What a person types; the work is done in scripts/tiering/.

S := scripts/tiering
export LINUX_SRC QEMU_SRC LLVM CONFIG JOBS

.DEFAULT_GOAL := help
.PHONY: help setup tree refresh kernel kernel-debug qemu demo shell test test-host check deb series clean

setup:
	@$(S)/setup.sh

tree:
	@$(S)/tree.sh linux
	@$(S)/tree.sh qemu

kernel:
	@$(S)/kernel.sh $(if $(DEBUG),debug)

kernel-debug:
	@$(S)/kernel.sh debug

qemu:
	@$(S)/qemu.sh
