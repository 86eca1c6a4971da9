/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HBalloon: what the files of the driver share
 */
#ifndef _VIRTIO_HBALLOON_H
#define _VIRTIO_HBALLOON_H

#include <linux/atomic.h>
#include <linux/balloon_compaction.h>
#include <linux/bits.h>
#include <linux/device.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/mmzone.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/page_reporting.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <uapi/linux/virtio_hballoon.h>

/* What hosts map by one page table entry on most architectures. */
#define HB_BLOCK_ORDER		get_order(SZ_2M)
#define HB_BLOCK_PAGES		BIT(HB_BLOCK_ORDER)

/*
 * Requests of a node: while the host works on one, others are on their way to
 * it or from it. More gain nothing and hold more memory in flight.
 */
#define HB_NR_REQUESTS		4
/*
 * What ends a request: this many ranges, or bytes. 32 MiB of used memory takes
 * a host some milliseconds, during which it may do nothing else for us.
 */
#define HB_REQ_RANGES		511	/* with the head 8 KiB */
#define HB_REQ_BYTES		SZ_32M

/*
 * Without success, try again after 10 ms, 20 ms ... up to 1 s; after 3 s tell
 * the host why, and go on at up to 30 s. All in ms.
 */
#define HB_BACKOFF_MIN_MS	10
#define HB_BACKOFF_MAX_MS	1000
#define HB_PATIENCE_MS		3000
#define HB_BACKOFF_IDLE_MS	30000

/* A host that is silent twice this long, when somebody waits, is given up. */
#define HB_SILENCE_MS		5000

#define HB_NODE_CONFIG_WORDS	(sizeof(struct virtio_hballoon_node) / 8)
#define HB_CONFIG_WORDS(nr) \
	(sizeof(struct virtio_hballoon_config) / 8 + \
	 (nr) * HB_NODE_CONFIG_WORDS)

/* As it goes to the host. */
struct hb_wire {
	struct virtio_hballoon_req head;
	struct virtio_hballoon_range range[HB_REQ_RANGES];
};

/**
 * struct hb_request - ranges on their way to the host
 * @list: in hb_node.idle or hb_node.inflight
 * @blocks: blocks of HB_BLOCK_ORDER that the ranges consist of
 * @pages: single pages, likewise
 * @nr_pages: pages of both
 * @nr_ranges: valid entries of @wire->range
 * @done: the host has answered; set in interrupt context
 * @start: when it was sent
 * @wire: what the host reads
 * @resp: what it writes
 */
struct hb_request {
	struct list_head list;
	struct list_head blocks;
	struct list_head pages;
	unsigned long nr_pages;
	unsigned int nr_ranges;
	bool done;
	ktime_t start;
	struct hb_wire *wire;
	struct virtio_hballoon_resp resp;
};

/* What a node has done since the driver was bound; for sysfs. Pages. */
enum hb_counter {
	HB_INFLATED,
	HB_DEFLATED,
	HB_MIGRATED,
	HB_SPLIT,
	HB_OOM_DEFLATED,
	HB_REPORTED,
	HB_REFUSED,
	HB_BUSY,
	HB_WRONG_NODE,
	HB_NR_COUNTERS,
};

/* What sysfs shows of a node: these, then the counters. */
enum hb_value {
	HB_SIZE,
	HB_TARGET,
	HB_ACTUAL,
	HB_GENERATION,
	HB_REASON,
	HB_BLOCKS,
	HB_PAGES,
	HB_NR_VALUES,
};

#define HB_NR_ATTRS		(HB_NR_VALUES + HB_NR_COUNTERS)

struct hb_attr {
	struct device_attribute dev;
	struct hb_node *node;
	unsigned int what;
};

/* What became of pages that were reported. */
enum hb_report {
	HB_REPORT_PENDING,	/* the host has them */
	HB_REPORT_DONE,
	HB_REPORT_VOID,		/* the device was reset first */
};

struct hballoon;

/**
 * struct hb_node - one memory node
 * @hb: the device
 * @index: in the device's table
 * @nid: ours
 * @id: the device's
 * @size: bytes
 * @extent: where they are, as pages
 * @nr_extents: valid entries of @extent
 * @reporting: the host wants to know of free memory
 * @target: bytes, of the configuration that the worker has read last
 * @generation: of @target, U64_MAX before the first one
 * @reported: generation that a completion was sent for
 * @reason: of that completion
 * @stats_seq: the last one answered
 * @work: the worker
 * @work_lock: held by the worker, and by who must not meet it
 * @order: what to allocate next; falls as larger blocks run out
 * @reclaim: whether allocation may reclaim: only once nothing is free
 * @trouble: why the last step failed, a VIRTIO_HBALLOON_REASON_*
 * @backoff_ms: how long to wait after the next failure
 * @patience: when to tell the host of failure, in jiffies
 * @oom_hold: no inflating before, in jiffies; 0: none
 * @stalled: generation for which this node's growing is not to be waited for
 * @request: all requests
 * @idle: unused ones; the worker's
 * @inflight: in the order they were sent; the worker's
 * @status: the completion that is being sent
 * @status_busy: it belongs to the host
 * @lock: protects @blocks, @nr_blocks
 * @blocks: held blocks, by page->lru
 * @nr_blocks: how many
 * @pages: held single pages, with a lock of their own
 * @nr_held: pages held in both forms
 * @foreign: pages that are on the node but none of the device's
 * @nr_foreign: how many
 * @counter: see enum hb_counter
 * @name: of the directory in sysfs
 * @attr: its files
 * @attrs: the same, as @group wants it
 * @group: the directory
 */
struct hb_node {
	struct hballoon *hb;
	unsigned int index;
	int nid;
	u32 id;
	u64 size;
	struct {
		unsigned long start_pfn;
		unsigned long end_pfn;
	} extent[VIRTIO_HBALLOON_MAX_EXTENTS];
	unsigned int nr_extents;
	bool reporting;

	u64 target;
	u64 generation;
	u64 reported;
	unsigned int reason;
	u64 stats_seq;

	struct delayed_work work;
	struct mutex work_lock;	/* order, reclaim, foreign, idle, inflight */
	int order;
	bool reclaim;
	unsigned int trouble;
	unsigned int backoff_ms;
	unsigned long patience;
	unsigned long oom_hold;
	u64 stalled;

	struct hb_request request[HB_NR_REQUESTS];
	struct list_head idle;
	struct list_head inflight;
	struct virtio_hballoon_status *status;
	bool status_busy;

	spinlock_t lock;	/* blocks, nr_blocks */
	struct list_head blocks;
	unsigned long nr_blocks;
	struct balloon_dev_info pages;
	atomic_long_t nr_held;
	struct list_head foreign;
	unsigned long nr_foreign;

	atomic_long_t counter[HB_NR_COUNTERS];

	char name[16];
	struct hb_attr attr[HB_NR_ATTRS];
	struct attribute *attrs[HB_NR_ATTRS + 1];
	struct attribute_group group;
};

/**
 * struct hballoon - the device
 * @vdev: the virtio device
 * @wq: runs the workers
 * @request_vq: VIRTIO_HBALLOON_VQ_REQUEST
 * @status_vq: VIRTIO_HBALLOON_VQ_STATUS
 * @reporting_vq: VIRTIO_HBALLOON_VQ_REPORTING, or NULL; NULL once the device is
 *		  reset
 * @vq_lock: serializes access to the queues
 * @acked: woken whenever the host has answered anything
 * @config_lock: protects @config and what nodes copy from it
 * @config: as read last
 * @stop_lock: protects @stop against the queueing of work
 * @stop: no more work; steps in progress end early
 * @dead: the host broke the device, or does not answer
 * @max_ranges: of one request
 * @config_seq: counts changes that the host announced
 * @xlock: serializes those who need an answer at once. Who holds it does not
 *	   allocate: it is taken where there is no memory
 * @xreq: the request that they use, once hb_lock_xreq() has succeeded
 * @xnode: whose memory is in @xreq, if the host has not answered it
 * @memory_nb: has held memory make way for what goes offline
 * @oom_nb: with F_DEFLATE_ON_OOM
 * @reporting: with F_REPORTING
 * @report: state of what was reported last
 * @nr_nodes: entries of @node
 * @node: the nodes
 */
struct hballoon {
	struct virtio_device *vdev;
	struct workqueue_struct *wq;
	struct virtqueue *request_vq;
	struct virtqueue *status_vq;
	struct virtqueue *reporting_vq;
	spinlock_t vq_lock;	/* access to the queues */
	wait_queue_head_t acked;

	struct mutex config_lock;	/* config */
	struct virtio_hballoon_config *config;

	spinlock_t stop_lock;	/* stop, against the queueing of work */
	bool stop;
	bool dead;
	unsigned int max_ranges;
	atomic_t config_seq;

	struct mutex xlock;	/* xreq, xnode */
	struct hb_request xreq;
	struct hb_node *xnode;

	struct notifier_block memory_nb;
	struct notifier_block oom_nb;
	struct page_reporting_dev_info reporting;
	enum hb_report report;

	unsigned int nr_nodes;
	struct hb_node node[] __counted_by(nr_nodes);
};

static inline void hb_count(struct hb_node *n, enum hb_counter counter,
			    unsigned long nr)
{
	atomic_long_add(nr, &n->counter[counter]);
}

static inline u64 hb_actual(const struct hb_node *n)
{
	return n->size - ((u64)atomic_long_read(&n->nr_held) << PAGE_SHIFT);
}

static inline bool hb_stopped(struct hballoon *hb)
{
	return READ_ONCE(hb->stop) || READ_ONCE(hb->dead);
}

static inline bool hb_answered(struct hb_request *req)
{
	/* Pairs with hb_request_acked(). */
	return smp_load_acquire(&req->done);
}

/* virtio_hballoon_queue.c */
bool hb_add_range(struct hb_request *req, unsigned int max_ranges,
		  unsigned long pfn, unsigned long nr);
void hb_give_up(struct hballoon *hb, const char *why);
void hb_request_acked(struct virtqueue *vq);
void hb_status_acked(struct virtqueue *vq);
void hb_reporting_acked(struct virtqueue *vq);
void hb_reset_request(struct hb_request *req);
int hb_send(struct hb_node *n, struct hb_request *req, unsigned int type,
	    unsigned int flags);
unsigned int hb_status_of(struct hb_node *n, struct hb_request *req);
u64 hb_zone_pages(int nid, enum zone_stat_item item);
bool hb_lock_xreq(struct hballoon *hb);
bool hb_trylock_xreq(struct hballoon *hb);
int hb_send_and_wait(struct hb_node *n, unsigned int type,
		     unsigned int flags);
void hb_send_status(struct hb_node *n, unsigned int type,
		    u64 generation, unsigned int reason);

/* virtio_hballoon_pages.c */
int hb_fit_order(int order, unsigned long nr);
bool hb_owns(const struct hb_node *n, unsigned long pfn,
	     unsigned long nr);
struct page *hb_alloc_own(struct hb_node *n, int order);
struct page *hb_take_block(struct hb_node *n);
unsigned long hb_take_pages(struct hb_node *n, unsigned long start,
			    unsigned long end, unsigned long max,
			    struct list_head *pages);
void hb_split_block(struct hb_node *n, struct page *page);
void hb_hold_instead(struct hb_node *n, struct page *to, struct page *from,
		     int order);
void hb_put_back(struct hb_node *n, struct list_head *blocks,
		 struct list_head *pages);
void hb_free_block(struct page *page);
void hb_free_pages(struct list_head *pages);
void hb_drop(struct hb_request *req);
void hb_drop_foreign(struct hb_node *n);
unsigned int hb_fill(struct hb_node *n, struct hb_request *req,
		     unsigned long want);
void hb_inflated(struct hb_node *n, struct hb_request *req);
void hb_drain(struct hb_node *n, struct hb_request *req,
	      unsigned long max);
void hb_count_deflated(struct hb_node *n, unsigned long nr);
void hb_deflated(struct hb_node *n, struct hb_request *req);
void hb_undrain(struct hb_node *n, struct hb_request *req);

/* virtio_hballoon_work.c */
unsigned int hb_next_backoff(unsigned int ms, bool told_host);
bool hb_lock_worker(struct hb_node *n);
void hb_unlock_worker(struct hb_node *n);
void hb_schedule_all(struct hballoon *hb);
void hb_work(struct work_struct *work);
void hb_config_changed(struct virtio_device *vdev);

/* virtio_hballoon_move.c */
int hb_migratepage(struct balloon_dev_info *pages, struct page *newpage,
		   struct page *page, enum migrate_mode mode);
int hb_memory_notify(struct notifier_block *nb, unsigned long action,
		     void *arg);

/* virtio_hballoon_events.c */
int hb_oom_notify(struct notifier_block *nb, unsigned long unused,
		  void *arg);
int hb_report_free(struct page_reporting_dev_info *reporting,
		   struct scatterlist *sg, unsigned int nents);

/* virtio_hballoon_sysfs.c */
int hb_add_sysfs(struct hb_node *n);

#endif /* _VIRTIO_HBALLOON_H */
