# The upstream versions that this repository is laid over. Read by make and by
# the shell (scripts/tiering/lib.sh), so: NAME=value, no spaces.
#
# LINUX_SRC= and QEMU_SRC= on make's command line name a tarball or a directory
# to use instead of Debian's package.

LINUX_VERSION=6.12
LINUX_PACKAGE=linux-source-6.12

QEMU_VERSION=10.0
QEMU_PACKAGE=qemu
# Debian 13, the release whose source package has that version.
QEMU_SUITE=trixie
