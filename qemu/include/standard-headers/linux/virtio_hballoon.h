/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * HBalloon: a virtio device with which a host resizes each memory node of a
 * guest. CONFIG_VIRTIO_HBALLOON is the driver's switch, virtio_hballoon its
 * file, VIRTIO_HBALLOON_* the protocol, which this header defines. In full:
 * Documentation/driver-api/virtio/hballoon.rst
 *
 * This header is BSD licensed so that anyone can use the definitions to
 * implement compatible drivers and devices.
 */
#ifndef _UAPI_LINUX_VIRTIO_HBALLOON_H
#define _UAPI_LINUX_VIRTIO_HBALLOON_H

#include "standard-headers/linux/types.h"

/*
 * How it works
 *
 * The guest's memory consists of nodes. For each the device offers a target:
 * how many of the node's bytes the guest may use. The driver allocates memory
 * of that node from its own operating system and hands it to the device
 * (inflate), or takes it back (deflate), until the size of the node minus what
 * the device holds, its "actual", equals the target. Then it reports so, or
 * that it fell short and why.
 *
 * What the device holds is a set of ranges of guest physical addresses, which
 * the device keeps itself. The guest does not use held memory; its content is
 * lost, and undefined when the guest has it back.
 *
 * All fields are little-endian. All addresses and sizes are multiples of
 * VIRTIO_HBALLOON_PAGE_SIZE. A request that breaks a rule called MUST below
 * makes the device set DEVICE_NEEDS_RESET and stop, with no request half done.
 *
 * A reset of the device gives all held memory back to the guest. Targets
 * survive it, so a driver that starts finds what it has to do.
 */

/* Not assigned by OASIS: private use, highest ID that virtio-pci can carry. */
#define VIRTIO_ID_HBALLOON		63

#define VIRTIO_HBALLOON_PAGE_SIZE	4096

/* Bounds that config space and a device's memory impose. */
#define VIRTIO_HBALLOON_MAX_NODES	32
#define VIRTIO_HBALLOON_MAX_EXTENTS	2
#define VIRTIO_HBALLOON_MAX_RANGES	1024

/* Feature bits */

/* node ids are ACPI proximity domains */
#define VIRTIO_HBALLOON_F_ACPI_PXM	0
/* queue 2 exists: free memory may be reported */
#define VIRTIO_HBALLOON_F_REPORTING	1
/* the guest may deflate beyond a target rather than kill a process */
#define VIRTIO_HBALLOON_F_DEFLATE_ON_OOM	2
/* struct virtio_hballoon_status carries valid statistics */
#define VIRTIO_HBALLOON_F_STATS		3

/* Queues */
#define VIRTIO_HBALLOON_VQ_REQUEST	0
#define VIRTIO_HBALLOON_VQ_STATUS	1
#define VIRTIO_HBALLOON_VQ_REPORTING	2	/* with F_REPORTING */

/* Config space: all of it is read-only to the driver */

/**
 * struct virtio_hballoon_range - guest physical memory
 * @addr: first byte
 * @len: bytes
 */
struct virtio_hballoon_range {
	uint64_t addr;
	uint64_t len;
};

/* With F_REPORTING: free memory of this node shall be reported. */
#define VIRTIO_HBALLOON_NODE_REPORTING	0x1

/**
 * struct virtio_hballoon_node - one memory node
 * @id: proximity domain with F_ACPI_PXM, else a plain number
 * @nr_extents: valid entries of @extent; constant
 * @flags: VIRTIO_HBALLOON_NODE_*, others are 0; constant
 * @reserved: 0
 * @extent: where the node's memory is; constant. The guest may have more
 *	    memory with the same @id, as of hot-plugged modules: that is none
 *	    of this device's
 * @size: bytes of guest memory on this node; constant
 * @floor: no target is below this many bytes
 * @target: bytes that the guest may use; @floor <= @target <= @size
 * @generation: of the change that set @target; 0 before any
 */
struct virtio_hballoon_node {
	uint32_t id;
	uint32_t nr_extents;
	uint32_t flags;
	uint32_t reserved;
	struct virtio_hballoon_range extent[VIRTIO_HBALLOON_MAX_EXTENTS];
	uint64_t size;
	uint64_t floor;
	uint64_t target;
	uint64_t generation;
};

/**
 * struct virtio_hballoon_config - device configuration
 * @num_nodes: entries of @node, at most VIRTIO_HBALLOON_MAX_NODES; constant
 * @max_ranges: ranges that one request may carry, at most
 *		VIRTIO_HBALLOON_MAX_RANGES; constant
 * @generation: the newest generation of all nodes. Targets that one command of
 *		the host changed together share a generation
 * @stats_seq: the driver sends statistics of each node when this changes
 * @node: the nodes
 */
struct virtio_hballoon_config {
	uint32_t num_nodes;
	uint32_t max_ranges;
	uint64_t generation;
	uint64_t stats_seq;
	struct virtio_hballoon_node node[];
};

/*
 * Requests, on queue 0
 *
 * Device-readable: struct virtio_hballoon_req, then nr_ranges times struct
 * virtio_hballoon_range. Device-writable: struct virtio_hballoon_resp. Several
 * requests may be in flight; the device executes them in order.
 *
 * A range MUST NOT be empty, MUST lie within one extent of the request's node,
 * and MUST NOT overlap another range of the request.
 */

/* Hand the ranges over. None MUST be held yet. */
#define VIRTIO_HBALLOON_REQ_INFLATE	1
/* Take the ranges back. All MUST be held. */
#define VIRTIO_HBALLOON_REQ_DEFLATE	2
/*
 * Hand the first range over and take the second back, both as long as the
 * other: for moving a held page, at any target. nr_ranges MUST be 2.
 */
#define VIRTIO_HBALLOON_REQ_EXCHANGE	3

/* The request is a deflate beyond the target, with F_DEFLATE_ON_OOM. */
#define VIRTIO_HBALLOON_REQ_FLAG_OOM	0x1

/**
 * struct virtio_hballoon_req - head of a request
 * @type: VIRTIO_HBALLOON_REQ_*
 * @flags: VIRTIO_HBALLOON_REQ_FLAG_*, others MUST be 0
 * @node: index into the config's node table; MUST be valid
 * @nr_ranges: MUST be 1 to the config's max_ranges
 * @reserved: 0
 */
struct virtio_hballoon_req {
	uint16_t type;
	uint16_t flags;
	uint32_t node;
	uint32_t nr_ranges;
	uint32_t reserved;
};

/* Done, all of it. */
#define VIRTIO_HBALLOON_RESP_OK		0
/* Nothing done: the device may not change its set now, as in a migration. */
#define VIRTIO_HBALLOON_RESP_BUSY	1
/* Nothing done: actual would pass the target. Read the config again. */
#define VIRTIO_HBALLOON_RESP_REFUSED	2
/* As before: the host could not discard the memory, or had none to give. */
#define VIRTIO_HBALLOON_RESP_FAILED	3

/**
 * struct virtio_hballoon_resp - the device's answer
 * @status: VIRTIO_HBALLOON_RESP_*
 * @reserved: 0
 * @actual: bytes of the node that the guest may use after this request
 */
struct virtio_hballoon_resp {
	uint32_t status;
	uint32_t reserved;
	uint64_t actual;
};

/* Status, on queue 1: device-readable struct virtio_hballoon_status */

/* A generation ended; @reason says how. */
#define VIRTIO_HBALLOON_STATUS_DONE	1
/* Statistics only. */
#define VIRTIO_HBALLOON_STATUS_STATS	2

/* Why a generation ended, and its target may not have been met */
#define VIRTIO_HBALLOON_REASON_REACHED	0
#define VIRTIO_HBALLOON_REASON_NO_MEMORY	1 /* none free, none reclaimable */
#define VIRTIO_HBALLOON_REASON_PINNED	2 /* held pages could not be taken back */
#define VIRTIO_HBALLOON_REASON_FLOOR	3 /* the guest's own reserve */
#define VIRTIO_HBALLOON_REASON_BUSY	4 /* the device answered BUSY */
#define VIRTIO_HBALLOON_REASON_CANCELLED	5 /* a newer generation, or the end */
#define VIRTIO_HBALLOON_REASON_FAILED	6 /* the device answered FAILED */
#define VIRTIO_HBALLOON_NR_REASONS	7

/* Statistics */
#define VIRTIO_HBALLOON_S_FREE		0 /* bytes free */
#define VIRTIO_HBALLOON_S_AVAILABLE	1 /* free, or clean page cache */
#define VIRTIO_HBALLOON_S_RECLAIMABLE	2 /* page cache and slab, bytes */
#define VIRTIO_HBALLOON_S_PROMOTED	3 /* bytes promoted to this node, ever */
#define VIRTIO_HBALLOON_S_DEMOTED	4 /* bytes demoted from this node, ever */
#define VIRTIO_HBALLOON_S_REFAULTS	5 /* pages read again after eviction */
#define VIRTIO_HBALLOON_S_PRESSURE	6 /* us stalled for memory, whole guest */
#define VIRTIO_HBALLOON_NR_STATS	7

/**
 * struct virtio_hballoon_status - what the guest says of one node
 * @type: VIRTIO_HBALLOON_STATUS_*
 * @reason: VIRTIO_HBALLOON_REASON_*, with STATUS_DONE
 * @node: index into the config's node table; MUST be valid
 * @generation: which one ended, with STATUS_DONE
 * @actual: bytes of the node that the guest may use, as the driver counts
 * @stat: indexed by VIRTIO_HBALLOON_S_*; all-ones where unknown
 */
struct virtio_hballoon_status {
	uint16_t type;
	uint16_t reason;
	uint32_t node;
	uint64_t generation;
	uint64_t actual;
	uint64_t stat[VIRTIO_HBALLOON_NR_STATS];
};

/*
 * Reporting, on queue 2: device-writable buffers that are free memory. The
 * device may discard their content before it returns them. No set is kept.
 */

#endif /* _UAPI_LINUX_VIRTIO_HBALLOON_H */
