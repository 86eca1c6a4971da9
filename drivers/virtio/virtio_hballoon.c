// SPDX-License-Identifier: GPL-2.0
/*
 * HBalloon: the host resizes each memory node of this guest
 *
 * The protocol is in <uapi/linux/virtio_hballoon.h>. Each node has a worker of
 * its own, which compares what the node has with its target and moves the
 * difference in requests of many ranges, several of them in flight:
 *
 *	targets  -> config_changed -> worker of each node
 *	inflate: allocate on the node -> request -> answer -> hold
 *	deflate: take from what is held -> request -> answer -> free
 *
 * Memory is held in two forms. Blocks of 2 MiB are fast to give and to take and
 * leave no holes in the host's page tables; nothing else fits between their
 * pages, so compaction has no use for them. Single pages make up the remainder,
 * and what a fragmented node has; compaction may move them within the node. A
 * block becomes single pages when part of it is wanted. Memory that is held
 * cannot go offline. All held pages are PG_offline and no longer managed.
 *
 * Suspend and hibernation give everything back, by a reset of the device, as
 * does unbinding; resume finds the targets and starts over. Memory that is
 * given back so is not touched, hence costs the host nothing.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/acpi.h>
#include <linux/balloon_compaction.h>
#include <linux/cpuset.h>
#include <linux/log2.h>
#include <linux/memory.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/page_reporting.h>
#include <linux/psi.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/tiering_demote.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/vmstat.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <uapi/linux/virtio_hballoon.h>
#include <uapi/linux/virtio_ring.h>

#define CREATE_TRACE_POINTS
#include <trace/events/hballoon.h>

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

/* What one out-of-memory condition may take back from one node. */
#define HB_OOM_PAGES		(SZ_4M >> PAGE_SHIFT)
/* How long a node is left alone after that, in ms. */
#define HB_OOM_HOLD_MS		60000

/* Foreign pages with the node's id that may be set aside, in pages. */
#define HB_MAX_FOREIGN		(SZ_64M >> PAGE_SHIFT)

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
 * @target: bytes, of the configuration that the worker has read last
 * @generation: of @target, U64_MAX before the first one
 * @reported: generation that a completion was sent for
 * @reason: of that completion
 * @stats_seq: the last one answered
 * @work: the worker
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

	u64 target;
	u64 generation;
	u64 reported;
	unsigned int reason;
	u64 stats_seq;

	struct delayed_work work;
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
 * @wq: runs the workers, and nothing while the system sleeps
 * @request_vq: VIRTIO_HBALLOON_VQ_REQUEST
 * @status_vq: VIRTIO_HBALLOON_VQ_STATUS
 * @reporting_vq: VIRTIO_HBALLOON_VQ_REPORTING, or NULL
 * @vq_lock: serializes access to the queues
 * @acked: woken whenever the host has answered anything
 * @config_lock: protects @config and what nodes copy from it
 * @config: as read last
 * @stop_lock: protects @stop against the queueing of work
 * @stop: no more work; steps in progress end early
 * @dead: the host broke the device, or does not answer
 * @max_ranges: of one request
 * @config_seq: counts changes that the host announced
 * @xlock: serializes those who need an answer at once
 * @xreq: the request that they use
 * @xnode: whose memory is in @xreq, if the host has not answered it
 * @memory_nb: keeps held memory from going offline
 * @oom_nb: with F_DEFLATE_ON_OOM
 * @reporting: with F_REPORTING
 * @reporting_done: the host is done with what was reported
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
	bool reporting_done;

	unsigned int nr_nodes;
	struct hb_node node[] __counted_by(nr_nodes);
};

/*
 * Pure parts: no device, no allocation
 */

/*
 * Add @nr pages from @pfn on to the ranges of a request, joined with the last
 * one where they touch. Returns false, with nothing added, if there is no room.
 */
static bool hb_add_range(struct hb_request *req, unsigned int max_ranges,
			 unsigned long pfn, unsigned long nr)
{
	struct virtio_hballoon_range *last;
	u64 addr = PFN_PHYS(pfn), len = (u64)nr << PAGE_SHIFT;

	if (req->nr_ranges) {
		u64 last_addr, last_len;

		last = &req->wire->range[req->nr_ranges - 1];
		last_addr = le64_to_cpu(last->addr);
		last_len = le64_to_cpu(last->len);
		if (addr == last_addr + last_len || addr + len == last_addr) {
			last->addr = cpu_to_le64(min(addr, last_addr));
			last->len = cpu_to_le64(last_len + len);
			req->nr_pages += nr;
			return true;
		}
	}
	if (req->nr_ranges == max_ranges)
		return false;
	last = &req->wire->range[req->nr_ranges++];
	last->addr = cpu_to_le64(addr);
	last->len = cpu_to_le64(len);
	req->nr_pages += nr;
	return true;
}

/* The largest order not above @order whose block is not more than @nr pages. */
static int hb_fit_order(int order, unsigned long nr)
{
	return min(order, ilog2(nr));
}

/* How long to wait after a failure that followed a wait of @ms. */
static unsigned int hb_next_backoff(unsigned int ms, bool told_host)
{
	unsigned int max = told_host ? HB_BACKOFF_IDLE_MS : HB_BACKOFF_MAX_MS;

	return clamp(ms * 2, HB_BACKOFF_MIN_MS, max);
}

/* Are all of these pages the device's? */
static bool hb_owns(const struct hb_node *n, unsigned long pfn,
		    unsigned long nr)
{
	unsigned int i;

	for (i = 0; i < n->nr_extents; i++) {
		if (pfn >= n->extent[i].start_pfn &&
		    pfn + nr <= n->extent[i].end_pfn)
			return true;
	}
	return false;
}

/*
 * Talking to the host
 */

static void hb_count(struct hb_node *n, enum hb_counter counter,
		     unsigned long nr)
{
	atomic_long_add(nr, &n->counter[counter]);
}

static u64 hb_actual(const struct hb_node *n)
{
	return n->size - ((u64)atomic_long_read(&n->nr_held) << PAGE_SHIFT);
}

static bool hb_stopped(struct hballoon *hb)
{
	return READ_ONCE(hb->stop) || READ_ONCE(hb->dead);
}

/* The device is of no use any more: let nobody wait for it. */
static void hb_give_up(struct hballoon *hb, const char *why)
{
	if (!xchg(&hb->dead, true))
		dev_err(&hb->vdev->dev, "%s; memory stays as it is until the device is reset\n",
			why);
	wake_up_all(&hb->acked);
}

static void hb_request_acked(struct virtqueue *vq)
{
	struct hballoon *hb = vq->vdev->priv;
	struct hb_request *req;
	unsigned long flags;
	unsigned int len;

	spin_lock_irqsave(&hb->vq_lock, flags);
	while ((req = virtqueue_get_buf(vq, &len))) {
		/* Too short an answer is none. */
		if (len < sizeof(req->resp))
			req->resp.status =
				cpu_to_le32(VIRTIO_HBALLOON_RESP_FAILED);
		/* Pairs with hb_answered(): the answer before the flag. */
		smp_store_release(&req->done, true);
	}
	spin_unlock_irqrestore(&hb->vq_lock, flags);
	wake_up_all(&hb->acked);
}

static void hb_status_acked(struct virtqueue *vq)
{
	struct hballoon *hb = vq->vdev->priv;
	struct hb_node *n;
	unsigned long flags;
	unsigned int len;

	spin_lock_irqsave(&hb->vq_lock, flags);
	while ((n = virtqueue_get_buf(vq, &len)))
		WRITE_ONCE(n->status_busy, false);
	spin_unlock_irqrestore(&hb->vq_lock, flags);
	wake_up_all(&hb->acked);
}

static void hb_reporting_acked(struct virtqueue *vq)
{
	struct hballoon *hb = vq->vdev->priv;
	unsigned long flags;
	unsigned int len;

	spin_lock_irqsave(&hb->vq_lock, flags);
	while (virtqueue_get_buf(vq, &len))
		WRITE_ONCE(hb->reporting_done, true);
	spin_unlock_irqrestore(&hb->vq_lock, flags);
	wake_up_all(&hb->acked);
}

static bool hb_answered(struct hb_request *req)
{
	/* Pairs with hb_request_acked(). */
	return smp_load_acquire(&req->done);
}

static void hb_reset_request(struct hb_request *req)
{
	req->nr_pages = 0;
	req->nr_ranges = 0;
	req->done = false;
}

/* Returns 0, or an error with nothing sent. */
static int hb_send(struct hb_node *n, struct hb_request *req, unsigned int type,
		   unsigned int flags)
{
	struct hballoon *hb = n->hb;
	struct scatterlist out, in, *sgs[] = { &out, &in };
	unsigned long irq;
	bool notify = false;
	int err;

	req->wire->head = (struct virtio_hballoon_req) {
		.type = cpu_to_le16(type),
		.flags = cpu_to_le16(flags),
		.node = cpu_to_le32(n->index),
		.nr_ranges = cpu_to_le32(req->nr_ranges),
	};
	req->done = false;
	req->start = ktime_get();
	sg_init_one(&out, req->wire,
		    offsetof(struct hb_wire, range[req->nr_ranges]));
	sg_init_one(&in, &req->resp, sizeof(req->resp));

	spin_lock_irqsave(&hb->vq_lock, irq);
	err = virtqueue_add_sgs(hb->request_vq, sgs, 1, 1, req, GFP_ATOMIC);
	if (!err)
		notify = virtqueue_kick_prepare(hb->request_vq);
	spin_unlock_irqrestore(&hb->vq_lock, irq);
	if (notify && !virtqueue_notify(hb->request_vq))
		hb_give_up(hb, "the device is broken");
	return err;
}

static unsigned int hb_status_of(struct hb_node *n, struct hb_request *req)
{
	unsigned int status = le32_to_cpu(req->resp.status);

	trace_hballoon_request(n->nid, le16_to_cpu(req->wire->head.type),
			       req->nr_ranges,
			       (u64)req->nr_pages << PAGE_SHIFT, status,
			       ktime_to_ns(ktime_sub(ktime_get(), req->start)));
	if (status == VIRTIO_HBALLOON_RESP_REFUSED)
		hb_count(n, HB_REFUSED, 1);
	else if (status == VIRTIO_HBALLOON_RESP_BUSY)
		hb_count(n, HB_BUSY, 1);
	return status;
}

/*
 * Send @hb->xreq and wait for the answer: with bounds, for those whose caller
 * cannot wait forever. Returns the answer, or -errno; -ETIMEDOUT if the request
 * is still the host's, and the device dead.
 */
static int hb_send_and_wait(struct hb_node *n, unsigned int type,
			    unsigned int flags)
{
	struct hballoon *hb = n->hb;
	struct hb_request *req = &hb->xreq;
	unsigned int i;
	int err;

	lockdep_assert_held(&hb->xlock);
	if (hb_stopped(hb))
		return -ENODEV;
	err = hb_send(n, req, type, flags);
	if (err)
		return err;
	/* Twice: a guest that was stopped finds the first wait over. */
	for (i = 0; i < 2; i++) {
		if (wait_event_timeout(hb->acked, hb_answered(req) ||
				       READ_ONCE(hb->dead),
				       msecs_to_jiffies(HB_SILENCE_MS)))
			break;
	}
	if (hb_answered(req))
		return hb_status_of(n, req);
	hb->xnode = n;
	hb_give_up(hb, "the host does not answer");
	return -ETIMEDOUT;
}

/*
 * Holding memory
 */

/* Pages of the node become managed memory, or cease to be. */
static void hb_adjust_managed(struct page *page, long nr)
{
	adjust_managed_page_count(page, nr);
}

/*
 * Like balloon_page_list_enqueue(), but for pages that compaction may have
 * seen here before and still be looking at.
 */
static void hb_enqueue(struct hb_node *n, struct list_head *pages)
{
	struct page *page, *next;
	unsigned long flags;

	list_for_each_entry_safe(page, next, pages, lru) {
		list_del(&page->lru);
		lock_page(page);
		spin_lock_irqsave(&n->pages.pages_lock, flags);
		balloon_page_insert(&n->pages, page);
		spin_unlock_irqrestore(&n->pages.pages_lock, flags);
		unlock_page(page);
	}
}

static void hb_hold_block(struct hb_node *n, struct page *page)
{
	unsigned long i;

	for (i = 0; i < HB_BLOCK_PAGES; i++)
		__SetPageOffline(page + i);
	hb_adjust_managed(page, -(long)HB_BLOCK_PAGES);
	spin_lock(&n->lock);
	list_add(&page->lru, &n->blocks);
	n->nr_blocks++;
	spin_unlock(&n->lock);
	atomic_long_add(HB_BLOCK_PAGES, &n->nr_held);
}

static struct page *hb_take_block(struct hb_node *n)
{
	struct page *page;

	spin_lock(&n->lock);
	page = list_first_entry_or_null(&n->blocks, struct page, lru);
	if (page) {
		list_del(&page->lru);
		n->nr_blocks--;
	}
	spin_unlock(&n->lock);
	return page;
}

/* Undo of hb_take_block(): the block is still offline and not managed. */
static void hb_put_back_block(struct hb_node *n, struct page *page)
{
	spin_lock(&n->lock);
	list_add(&page->lru, &n->blocks);
	n->nr_blocks++;
	spin_unlock(&n->lock);
}

/* A block that was taken and that the host has released. */
static void hb_free_block(struct page *page)
{
	unsigned long i;

	for (i = 0; i < HB_BLOCK_PAGES; i++)
		__ClearPageOffline(page + i);
	hb_adjust_managed(page, HB_BLOCK_PAGES);
	__free_pages(page, HB_BLOCK_ORDER);
}

/* Make a block that was taken into held single pages, all of them movable. */
static void hb_split_block(struct hb_node *n, struct page *page)
{
	LIST_HEAD(pages);
	unsigned long i;

	split_page(page, HB_BLOCK_ORDER);
	for (i = 0; i < HB_BLOCK_PAGES; i++) {
		__ClearPageOffline(page + i);
		list_add_tail(&page[i].lru, &pages);
	}
	hb_enqueue(n, &pages);
	hb_count(n, HB_SPLIT, HB_BLOCK_PAGES);
}

/* All pages of the list are of one node, but perhaps not of one zone. */
static void hb_hold_pages(struct hb_node *n, struct list_head *pages)
{
	struct page *page;
	unsigned long nr = 0;

	list_for_each_entry(page, pages, lru) {
		hb_adjust_managed(page, -1);
		nr++;
	}
	hb_enqueue(n, pages);
	atomic_long_add(nr, &n->nr_held);
}

/* Single pages that were taken and that the host has released. */
static void hb_free_pages(struct list_head *pages)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, pages, lru) {
		list_del(&page->lru);
		hb_adjust_managed(page, 1);
		put_page(page);
	}
}

/* Free what has been allocated, but not held. */
static void hb_drop(struct hb_request *req)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &req->blocks, lru) {
		list_del(&page->lru);
		__free_pages(page, HB_BLOCK_ORDER);
	}
	list_for_each_entry_safe(page, next, &req->pages, lru) {
		list_del(&page->lru);
		__free_page(page);
	}
}

static void hb_drop_foreign(struct hb_node *n)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &n->foreign, lru) {
		list_del(&page->lru);
		__free_pages(page, page_private(page));
	}
	n->nr_foreign = 0;
}

/*
 * Inflating
 */

static struct page *hb_alloc(struct hb_node *n, int order)
{
	gfp_t gfp = balloon_mapping_gfp_mask() | __GFP_THISNODE |
		    __GFP_NOMEMALLOC | __GFP_NORETRY | __GFP_NOWARN;

	/* Reclaim is for single pages that cannot be had otherwise. */
	if (order || !n->reclaim)
		gfp &= ~__GFP_RECLAIM;
	return alloc_pages_node(n->nid, gfp, order);
}

/* Allocate 2^@order pages of the device's part of the node, or NULL. */
static struct page *hb_alloc_own(struct hb_node *n, int order)
{
	struct page *page;

	while ((page = hb_alloc(n, order))) {
		if (page_to_nid(page) != n->nid) {
			hb_count(n, HB_WRONG_NODE, 1UL << order);
			__free_pages(page, order);
			return NULL;
		}
		if (likely(hb_owns(n, page_to_pfn(page), 1UL << order)))
			return page;
		if (n->nr_foreign + (1UL << order) > HB_MAX_FOREIGN) {
			__free_pages(page, order);
			return NULL;
		}
		/* Keep it for now, or it will be found again. */
		set_page_private(page, order);
		list_add(&page->lru, &n->foreign);
		n->nr_foreign += 1UL << order;
	}
	return NULL;
}

/* More memory to allocate from? Each stage comes once in a row of failures. */
static bool hb_make_room(struct hb_node *n, unsigned long nr)
{
	if (n->order > 0) {
		n->order--;
		return true;
	}
	if (n->reclaim)
		return false;
	n->reclaim = true;
	hpl_demote_node(n->nid, nr);
	return true;
}

/*
 * Allocate up to @want pages into @req. Returns 0, or the reason why it holds
 * less than it has room for.
 */
static unsigned int hb_fill(struct hb_node *n, struct hb_request *req,
			    unsigned long want)
{
	unsigned long max = min(want, (unsigned long)(HB_REQ_BYTES >> PAGE_SHIFT));
	unsigned long i;

	while (req->nr_pages < max && req->nr_ranges < n->hb->max_ranges) {
		int order = hb_fit_order(n->order, max - req->nr_pages);
		struct page *page = hb_alloc_own(n, order);

		if (!page) {
			/* A smaller remainder says nothing of larger blocks. */
			if (order < n->order)
				n->order = order;
			if (!hb_make_room(n, want))
				return VIRTIO_HBALLOON_REASON_NO_MEMORY;
			continue;
		}
		hb_add_range(req, n->hb->max_ranges, page_to_pfn(page),
			     1UL << order);
		if (order == HB_BLOCK_ORDER) {
			list_add_tail(&page->lru, &req->blocks);
			continue;
		}
		if (order)
			split_page(page, order);
		for (i = 0; i < 1UL << order; i++)
			list_add_tail(&page[i].lru, &req->pages);
		cond_resched();
	}
	return 0;
}

static void hb_inflated(struct hb_node *n, struct hb_request *req)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &req->blocks, lru) {
		list_del(&page->lru);
		hb_hold_block(n, page);
	}
	hb_hold_pages(n, &req->pages);
	hb_count(n, HB_INFLATED, req->nr_pages);
}

/*
 * Deflating
 */

/* Take up to @max held pages, blocks first, into @req. */
static void hb_drain(struct hb_node *n, struct hb_request *req,
		     unsigned long max)
{
	struct page *page;
	LIST_HEAD(pages);
	unsigned long room;

	while (req->nr_ranges < n->hb->max_ranges && req->nr_pages < max) {
		if (max - req->nr_pages < HB_BLOCK_PAGES)
			break;
		page = hb_take_block(n);
		if (!page)
			break;
		hb_add_range(req, n->hb->max_ranges, page_to_pfn(page),
			     HB_BLOCK_PAGES);
		list_add_tail(&page->lru, &req->blocks);
	}

	room = min(max - req->nr_pages,
		   (unsigned long)(n->hb->max_ranges - req->nr_ranges));
	if (!room)
		return;
	if (!balloon_page_list_dequeue(&n->pages, &pages, room)) {
		page = req->nr_pages ? NULL : hb_take_block(n);
		if (!page)
			return;
		hb_split_block(n, page);
		balloon_page_list_dequeue(&n->pages, &pages, room);
	}
	list_for_each_entry(page, &pages, lru)
		hb_add_range(req, n->hb->max_ranges, page_to_pfn(page), 1);
	list_splice_tail(&pages, &req->pages);
}

static void hb_deflated(struct hb_node *n, struct hb_request *req)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &req->blocks, lru) {
		list_del(&page->lru);
		hb_free_block(page);
	}
	hb_free_pages(&req->pages);
	atomic_long_sub(req->nr_pages, &n->nr_held);
	hb_count(n, HB_DEFLATED, req->nr_pages);
}

/* The host would not: hold again what was taken. */
static void hb_undrain(struct hb_node *n, struct hb_request *req)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &req->blocks, lru) {
		list_del(&page->lru);
		hb_put_back_block(n, page);
	}
	hb_enqueue(n, &req->pages);
}

/*
 * The worker
 */

/* Act upon an answer. Returns 0 or a VIRTIO_HBALLOON_REASON_*. */
static unsigned int hb_finish(struct hb_node *n, struct hb_request *req)
{
	bool inflate = le16_to_cpu(req->wire->head.type) ==
		       VIRTIO_HBALLOON_REQ_INFLATE;
	unsigned int status = hb_status_of(n, req);

	if (status == VIRTIO_HBALLOON_RESP_OK) {
		if (inflate)
			hb_inflated(n, req);
		else
			hb_deflated(n, req);
		return 0;
	}
	if (inflate)
		hb_drop(req);
	else
		hb_undrain(n, req);
	switch (status) {
	case VIRTIO_HBALLOON_RESP_BUSY:
		return VIRTIO_HBALLOON_REASON_BUSY;
	case VIRTIO_HBALLOON_RESP_REFUSED:
		/* The target has moved; a new configuration says where to. */
		return VIRTIO_HBALLOON_REASON_CANCELLED;
	default:
		return VIRTIO_HBALLOON_REASON_FAILED;
	}
}

/*
 * Finish requests that are answered; wait for the oldest one if @wait. Returns
 * whether one was finished. Trouble is noted in @n.
 */
static bool hb_reap(struct hb_node *n, bool wait)
{
	struct hballoon *hb = n->hb;
	struct hb_request *req;
	unsigned int trouble;
	bool any = false;

	while ((req = list_first_entry_or_null(&n->inflight, struct hb_request,
					       list))) {
		if (wait && !any)
			wait_event_idle(hb->acked, hb_answered(req) ||
					hb_stopped(hb));
		if (!hb_answered(req))
			break;
		trouble = hb_finish(n, req);
		if (trouble)
			n->trouble = trouble;
		hb_reset_request(req);
		list_move(&req->list, &n->idle);
		any = true;
	}
	return any;
}

/* Pages that are on their way to or from the host. */
static unsigned long hb_in_flight(struct hb_node *n, unsigned int type)
{
	struct hb_request *req;
	unsigned long nr = 0;

	list_for_each_entry(req, &n->inflight, list) {
		if (le16_to_cpu(req->wire->head.type) == type)
			nr += req->nr_pages;
	}
	return nr;
}

/* A request to fill; NULL once the device is dead. */
static struct hb_request *hb_get_request(struct hb_node *n)
{
	while (list_empty(&n->idle)) {
		if (!hb_reap(n, true))
			return NULL;
	}
	return list_first_entry(&n->idle, struct hb_request, list);
}

static bool hb_submit(struct hb_node *n, struct hb_request *req,
		      unsigned int type)
{
	int err;

	/* Other nodes may have filled the queue: any answer makes room. */
	while ((err = hb_send(n, req, type, 0)) == -ENOSPC) {
		if (hb_reap(n, true))
			continue;
		if (hb_stopped(n->hb))
			break;
		schedule_timeout_idle(1);
	}
	if (!err) {
		list_move_tail(&req->list, &n->inflight);
		return true;
	}
	if (type == VIRTIO_HBALLOON_REQ_INFLATE)
		hb_drop(req);
	else
		hb_undrain(n, req);
	hb_reset_request(req);
	n->trouble = VIRTIO_HBALLOON_REASON_FAILED;
	return false;
}

/*
 * One step towards the target: at most one request more in flight. Returns
 * whether there is more to do now.
 */
static bool hb_step(struct hb_node *n)
{
	unsigned long want = (n->size - n->target) >> PAGE_SHIFT;
	unsigned long coming = hb_in_flight(n, VIRTIO_HBALLOON_REQ_INFLATE);
	unsigned long going = hb_in_flight(n, VIRTIO_HBALLOON_REQ_DEFLATE);
	unsigned long held = atomic_long_read(&n->nr_held) + coming - going;
	struct hb_request *req;
	unsigned int type, why = 0;

	/* Back and forth: let the one direction end before the other begins. */
	if (held == want || (held < want && going) || (held > want && coming))
		return hb_reap(n, true) && !n->trouble;

	req = hb_get_request(n);
	if (!req)
		return false;
	/* Waiting for a request may have ended others. */
	held = atomic_long_read(&n->nr_held) +
	       hb_in_flight(n, VIRTIO_HBALLOON_REQ_INFLATE) -
	       hb_in_flight(n, VIRTIO_HBALLOON_REQ_DEFLATE);
	if (held == want)
		return !n->trouble;
	if (held < want) {
		type = VIRTIO_HBALLOON_REQ_INFLATE;
		why = hb_fill(n, req, want - held);
	} else {
		type = VIRTIO_HBALLOON_REQ_DEFLATE;
		hb_drain(n, req, held - want);
		if (!req->nr_pages)
			why = VIRTIO_HBALLOON_REASON_PINNED;
	}
	if (why)
		n->trouble = why;
	if (req->nr_pages && !hb_submit(n, req, type))
		return false;
	hb_reap(n, false);
	return !n->trouble;
}

/* Copy the node's part of the configuration. */
static void hb_take_config(struct hb_node *n)
{
	struct hballoon *hb = n->hb;
	const struct virtio_hballoon_node *c = &hb->config->node[n->index];
	u64 generation = le64_to_cpu(c->generation);

	lockdep_assert_held(&hb->config_lock);
	if (generation == n->generation && n->target == le64_to_cpu(c->target))
		return;
	n->generation = generation;
	n->target = clamp_t(u64, round_down(le64_to_cpu(c->target), PAGE_SIZE),
			    0, n->size);
	n->order = HB_BLOCK_ORDER;
	n->reclaim = false;
	n->backoff_ms = 0;
	n->patience = jiffies + msecs_to_jiffies(HB_PATIENCE_MS);
	trace_hballoon_target(n->nid, generation, n->target, hb_actual(n));
}

/*
 * Read all of the configuration, in one state. Returns whether the host wants
 * statistics.
 */
static bool hb_read_config(struct hb_node *n)
{
	struct hballoon *hb = n->hb;
	u64 stats_seq;

	mutex_lock(&hb->config_lock);
	__virtio_cread_many(hb->vdev, 0, hb->config,
			    HB_CONFIG_WORDS(hb->nr_nodes), 8);
	hb_take_config(n);
	stats_seq = le64_to_cpu(hb->config->stats_seq);
	mutex_unlock(&hb->config_lock);
	if (stats_seq == n->stats_seq)
		return false;
	n->stats_seq = stats_seq;
	return true;
}

/*
 * Must this node wait with shrinking? Targets that were changed together keep
 * their sum if those that grow go first.
 */
static bool hb_must_wait(struct hb_node *n)
{
	struct hballoon *hb = n->hb;
	bool wait = false;
	unsigned int i;

	if (hb_actual(n) <= n->target)
		return false;
	mutex_lock(&hb->config_lock);
	for (i = 0; i < hb->nr_nodes && !wait; i++) {
		const struct virtio_hballoon_node *c = &hb->config->node[i];
		struct hb_node *other = &hb->node[i];

		wait = other != n &&
		       le64_to_cpu(c->generation) == n->generation &&
		       READ_ONCE(other->stalled) != n->generation &&
		       hb_actual(other) < le64_to_cpu(c->target);
	}
	mutex_unlock(&hb->config_lock);
	return wait;
}

static void hb_schedule(struct hb_node *n, unsigned int ms)
{
	struct hballoon *hb = n->hb;
	unsigned long flags;

	spin_lock_irqsave(&hb->stop_lock, flags);
	if (!hb->stop && !hb->dead)
		mod_delayed_work(hb->wq, &n->work, msecs_to_jiffies(ms));
	spin_unlock_irqrestore(&hb->stop_lock, flags);
}

static void hb_schedule_all(struct hballoon *hb)
{
	unsigned int i;

	for (i = 0; i < hb->nr_nodes; i++)
		hb_schedule(&hb->node[i], 0);
}

static u64 hb_zone_pages(int nid, enum zone_stat_item item)
{
	u64 nr = 0;
	int i;

	for (i = 0; i < MAX_NR_ZONES; i++)
		nr += zone_page_state(&NODE_DATA(nid)->node_zones[i], item);
	return nr;
}

static u64 hb_node_stat(int nid, enum node_stat_item item)
{
	/* Off by what processors have not folded in yet. */
	return max(0L, atomic_long_read(&NODE_DATA(nid)->vm_stat[item]));
}

static void hb_fill_stats(struct hb_node *n, __le64 *stat)
{
	u64 free = hb_zone_pages(n->nid, NR_FREE_PAGES);
	u64 file = hb_node_stat(n->nid, NR_ACTIVE_FILE) +
		   hb_node_stat(n->nid, NR_INACTIVE_FILE);
	u64 slab = hb_node_stat(n->nid, NR_SLAB_RECLAIMABLE_B);
	u64 dirty = hb_node_stat(n->nid, NR_FILE_DIRTY);
	u64 demoted = hb_node_stat(n->nid, PGDEMOTE_KSWAPD) +
		      hb_node_stat(n->nid, PGDEMOTE_DIRECT);
	u64 promoted = U64_MAX;
	u64 pressure = U64_MAX;

#ifdef CONFIG_NUMA_BALANCING
	promoted = hb_node_stat(n->nid, PGPROMOTE_SUCCESS) << PAGE_SHIFT;
#endif
#if defined(CONFIG_PSI) && IS_BUILTIN(CONFIG_VIRTIO_HBALLOON)
	pressure = div_u64(psi_system.total[PSI_AVGS][PSI_MEM_SOME],
			   NSEC_PER_USEC);
#endif
	stat[VIRTIO_HBALLOON_S_FREE] = cpu_to_le64(free << PAGE_SHIFT);
	stat[VIRTIO_HBALLOON_S_AVAILABLE] =
		cpu_to_le64((free + file - min(file, dirty)) << PAGE_SHIFT);
	stat[VIRTIO_HBALLOON_S_RECLAIMABLE] =
		cpu_to_le64((file + slab) << PAGE_SHIFT);
	stat[VIRTIO_HBALLOON_S_PROMOTED] = cpu_to_le64(promoted);
	stat[VIRTIO_HBALLOON_S_DEMOTED] = cpu_to_le64(demoted << PAGE_SHIFT);
	stat[VIRTIO_HBALLOON_S_REFAULTS] =
		cpu_to_le64(hb_node_stat(n->nid, WORKINGSET_REFAULT_ANON) +
			    hb_node_stat(n->nid, WORKINGSET_REFAULT_FILE));
	stat[VIRTIO_HBALLOON_S_PRESSURE] = cpu_to_le64(pressure);
}

static void hb_send_status(struct hb_node *n, unsigned int type,
			   u64 generation, unsigned int reason)
{
	struct hballoon *hb = n->hb;
	struct scatterlist sg;
	unsigned long flags;
	bool notify = false;

	wait_event_idle(hb->acked, !READ_ONCE(n->status_busy) ||
			hb_stopped(hb));
	if (hb_stopped(hb))
		return;
	*n->status = (struct virtio_hballoon_status) {
		.type = cpu_to_le16(type),
		.reason = cpu_to_le16(reason),
		.node = cpu_to_le32(n->index),
		.generation = cpu_to_le64(generation),
		.actual = cpu_to_le64(hb_actual(n)),
	};
	hb_fill_stats(n, n->status->stat);
	sg_init_one(&sg, n->status, sizeof(*n->status));

	spin_lock_irqsave(&hb->vq_lock, flags);
	n->status_busy = true;
	if (virtqueue_add_outbuf(hb->status_vq, &sg, 1, n, GFP_ATOMIC))
		n->status_busy = false;
	else
		notify = virtqueue_kick_prepare(hb->status_vq);
	spin_unlock_irqrestore(&hb->vq_lock, flags);
	if (notify && !virtqueue_notify(hb->status_vq))
		hb_give_up(hb, "the device is broken");
}

/* Tell the host once how a generation ended, and again if it got better. */
static void hb_report(struct hb_node *n, unsigned int reason)
{
	if (n->reported == n->generation &&
	    (n->reason == reason || reason != VIRTIO_HBALLOON_REASON_REACHED))
		return;
	trace_hballoon_done(n->nid, n->generation, hb_actual(n), reason);
	hb_send_status(n, VIRTIO_HBALLOON_STATUS_DONE, n->generation, reason);
	n->reported = n->generation;
	n->reason = reason;
	/* Others may have waited for this one to grow. */
	WRITE_ONCE(n->stalled, n->generation);
	hb_schedule_all(n->hb);
}

/* A step failed: wait before the next one, and tell the host in time. */
static void hb_back_off(struct hb_node *n)
{
	bool told = n->reported == n->generation;

	if (!told && time_after(jiffies, n->patience))
		hb_report(n, n->trouble);
	n->backoff_ms = hb_next_backoff(n->backoff_ms, told);
	/* Larger blocks may have become free by then. */
	n->order = HB_BLOCK_ORDER;
	n->reclaim = false;
	hb_schedule(n, n->backoff_ms);
}

/* After an out-of-memory condition: no inflating for a while. */
static bool hb_on_hold(struct hb_node *n)
{
	unsigned long hold = READ_ONCE(n->oom_hold);

	return hold && time_before(jiffies, hold) && hb_actual(n) > n->target;
}

/* Steps until the target is reached or changes, or trouble comes up. */
static void hb_work_towards_target(struct hb_node *n, int seq)
{
	struct hballoon *hb = n->hb;

	n->trouble = 0;
	while (!hb_stopped(hb) && seq == atomic_read(&hb->config_seq) &&
	       !hb_must_wait(n) && hb_step(n))
		cond_resched();
	/* What is under way ends before anything else begins. */
	while (hb_reap(n, true))
		cond_resched();
	hb_drop_foreign(n);
}

static void hb_work(struct work_struct *work)
{
	struct hb_node *n = container_of(to_delayed_work(work), struct hb_node,
					 work);
	struct hballoon *hb = n->hb;
	int seq = atomic_read(&hb->config_seq);

	if (hb_read_config(n))
		hb_send_status(n, VIRTIO_HBALLOON_STATUS_STATS, 0, 0);
	if (hb_on_hold(n)) {
		hb_report(n, VIRTIO_HBALLOON_REASON_FLOOR);
		hb_schedule(n, HB_BACKOFF_IDLE_MS);
		return;
	}
	hb_work_towards_target(n, seq);
	if (hb_stopped(hb))
		return;
	if (seq != atomic_read(&hb->config_seq))
		hb_schedule(n, 0);
	else if (hb_actual(n) == n->target)
		hb_report(n, VIRTIO_HBALLOON_REASON_REACHED);
	else if (hb_must_wait(n))
		hb_schedule(n, HB_BACKOFF_MIN_MS);
	else
		hb_back_off(n);
}

static void hb_config_changed(struct virtio_device *vdev)
{
	struct hballoon *hb = vdev->priv;

	if (vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_NEEDS_RESET) {
		hb_give_up(hb, "the device wants a reset");
		return;
	}
	atomic_inc(&hb->config_seq);
	hb_schedule_all(hb);
}

/*
 * Others who want held memory to move
 */

#ifdef CONFIG_BALLOON_COMPACTION
/* Called with both pages locked; @page is isolated. */
static int hb_migratepage(struct balloon_dev_info *pages, struct page *newpage,
			  struct page *page, enum migrate_mode mode)
{
	struct hb_node *n = container_of(pages, struct hb_node, pages);
	struct hballoon *hb = n->hb;
	struct hb_request *req = &hb->xreq;
	unsigned long flags;
	int status;

	if (page_to_nid(newpage) != n->nid ||
	    !hb_owns(n, page_to_pfn(newpage), 1))
		return -EBUSY;
	/* An inflating worker can get here by way of compaction. */
	if (!mutex_trylock(&hb->xlock))
		return -EAGAIN;
	hb_reset_request(req);
	req->nr_pages = 1;
	req->nr_ranges = 2;
	req->wire->range[0].addr = cpu_to_le64(page_to_phys(newpage));
	req->wire->range[0].len = cpu_to_le64(PAGE_SIZE);
	req->wire->range[1].addr = cpu_to_le64(page_to_phys(page));
	req->wire->range[1].len = cpu_to_le64(PAGE_SIZE);
	status = hb_send_and_wait(n, VIRTIO_HBALLOON_REQ_EXCHANGE, 0);
	if (status == VIRTIO_HBALLOON_RESP_OK || status == -ETIMEDOUT)
		get_page(newpage);
	if (status == -ETIMEDOUT)
		list_add(&newpage->lru, &req->pages);
	mutex_unlock(&hb->xlock);
	if (status != VIRTIO_HBALLOON_RESP_OK)
		return status == VIRTIO_HBALLOON_RESP_BUSY ? -EAGAIN : -EBUSY;

	hb_adjust_managed(newpage, -1);
	spin_lock_irqsave(&pages->pages_lock, flags);
	balloon_page_insert(pages, newpage);
	pages->isolated_pages--;
	__count_vm_event(BALLOON_MIGRATE);
	spin_unlock_irqrestore(&pages->pages_lock, flags);
	hb_count(n, HB_MIGRATED, 1);

	balloon_page_finalize(page);
	hb_adjust_managed(page, 1);
	put_page(page);
	return MIGRATEPAGE_SUCCESS;
}
#endif

/* Does any held page lie in [@start, @end)? */
static bool hb_holds(struct hb_node *n, unsigned long start, unsigned long end)
{
	struct page *page;
	unsigned long flags;
	bool holds = false;

	spin_lock(&n->lock);
	list_for_each_entry(page, &n->blocks, lru) {
		holds = page_to_pfn(page) >= start && page_to_pfn(page) < end;
		if (holds)
			break;
	}
	spin_unlock(&n->lock);
	if (holds)
		return true;
	spin_lock_irqsave(&n->pages.pages_lock, flags);
	list_for_each_entry(page, &n->pages.pages, lru) {
		holds = page_to_pfn(page) >= start && page_to_pfn(page) < end;
		if (holds)
			break;
	}
	spin_unlock_irqrestore(&n->pages.pages_lock, flags);
	return holds;
}

/*
 * Memory that goes offline moves to another node, which held memory does not,
 * and the core would try forever: refuse at once.
 */
static int hb_memory_notify(struct notifier_block *nb, unsigned long action,
			    void *arg)
{
	struct hballoon *hb = container_of(nb, struct hballoon, memory_nb);
	struct memory_notify *mn = arg;
	unsigned int i;

	if (action != MEM_GOING_OFFLINE)
		return NOTIFY_OK;
	for (i = 0; i < hb->nr_nodes; i++) {
		if (hb_holds(&hb->node[i], mn->start_pfn,
			     mn->start_pfn + mn->nr_pages))
			return notifier_from_errno(-EBUSY);
	}
	return NOTIFY_OK;
}

/* Can memory of the node help the allocation that current cannot make? */
static bool hb_helps_current(struct hb_node *n)
{
	struct mempolicy *policy = current->mempolicy;

	if (!node_isset(n->nid, cpuset_current_mems_allowed))
		return false;
	return !policy || policy->mode != MPOL_BIND ||
	       node_isset(n->nid, policy->nodes);
}

/* Take back a little without asking the target. Returns the pages freed. */
static unsigned long hb_deflate_on_oom(struct hb_node *n)
{
	struct hb_request *req = &n->hb->xreq;
	unsigned long nr;
	int status;

	hb_reset_request(req);
	hb_drain(n, req, HB_OOM_PAGES);
	if (!req->nr_pages)
		return 0;
	status = hb_send_and_wait(n, VIRTIO_HBALLOON_REQ_DEFLATE,
				  VIRTIO_HBALLOON_REQ_FLAG_OOM);
	if (status != VIRTIO_HBALLOON_RESP_OK) {
		if (status != -ETIMEDOUT)
			hb_undrain(n, req);
		return 0;
	}
	nr = req->nr_pages;
	WRITE_ONCE(n->oom_hold, jiffies + msecs_to_jiffies(HB_OOM_HOLD_MS));
	hb_deflated(n, req);
	hb_count(n, HB_OOM_DEFLATED, nr);
	return nr;
}

static int hb_oom_notify(struct notifier_block *nb, unsigned long unused,
			 void *arg)
{
	struct hballoon *hb = container_of(nb, struct hballoon, oom_nb);
	unsigned long *freed = arg, nr = 0;
	unsigned int i;

	if (!mutex_trylock(&hb->xlock))
		return NOTIFY_OK;
	/* The last node is the slowest one, which the host misses least. */
	for (i = hb->nr_nodes; i-- > 0 && !nr;) {
		if (hb_helps_current(&hb->node[i]))
			nr = hb_deflate_on_oom(&hb->node[i]);
	}
	mutex_unlock(&hb->xlock);
	if (nr) {
		*freed += nr;
		/* Workers stop inflating. */
		atomic_inc(&hb->config_seq);
		hb_schedule_all(hb);
	}
	return NOTIFY_OK;
}

static int hb_report_free(struct page_reporting_dev_info *reporting,
			  struct scatterlist *sg, unsigned int nents)
{
	struct hballoon *hb = container_of(reporting, struct hballoon,
					   reporting);
	unsigned long flags;
	int err;

	if (hb_stopped(hb))
		return -ENODEV;
	hb->reporting_done = false;
	spin_lock_irqsave(&hb->vq_lock, flags);
	err = virtqueue_add_inbuf(hb->reporting_vq, sg, nents, hb, GFP_ATOMIC);
	spin_unlock_irqrestore(&hb->vq_lock, flags);
	if (err)
		return err;
	virtqueue_kick(hb->reporting_vq);
	/* Until then the pages are isolated: they must not be used. */
	wait_event_idle(hb->acked, READ_ONCE(hb->reporting_done) ||
			READ_ONCE(hb->dead));
	return READ_ONCE(hb->reporting_done) ? 0 : -EIO;
}

/*
 * sysfs: a directory of each node
 */

static const char * const hb_attr_name[HB_NR_ATTRS] = {
	[HB_SIZE] = "size",
	[HB_TARGET] = "target",
	[HB_ACTUAL] = "actual",
	[HB_GENERATION] = "generation",
	[HB_REASON] = "reason",
	[HB_BLOCKS] = "held_blocks",
	[HB_PAGES] = "held_pages",
	[HB_NR_VALUES + HB_INFLATED] = "inflated",
	[HB_NR_VALUES + HB_DEFLATED] = "deflated",
	[HB_NR_VALUES + HB_MIGRATED] = "migrated",
	[HB_NR_VALUES + HB_SPLIT] = "split",
	[HB_NR_VALUES + HB_OOM_DEFLATED] = "oom_deflated",
	[HB_NR_VALUES + HB_REFUSED] = "refused",
	[HB_NR_VALUES + HB_BUSY] = "busy",
	[HB_NR_VALUES + HB_WRONG_NODE] = "wrong_node",
};

static u64 hb_value(struct hb_node *n, unsigned int what)
{
	switch (what) {
	case HB_SIZE:
		return n->size;
	case HB_TARGET:
		return READ_ONCE(n->target);
	case HB_ACTUAL:
		return hb_actual(n);
	case HB_GENERATION:
		return READ_ONCE(n->generation);
	case HB_REASON:
		return READ_ONCE(n->reason);
	case HB_BLOCKS:
		return READ_ONCE(n->nr_blocks);
	case HB_PAGES:
		return atomic_long_read(&n->nr_held) -
		       READ_ONCE(n->nr_blocks) * HB_BLOCK_PAGES;
	default:
		return atomic_long_read(&n->counter[what - HB_NR_VALUES]);
	}
}

static ssize_t hb_show(struct device *dev, struct device_attribute *dev_attr,
		       char *buf)
{
	struct hb_attr *attr = container_of(dev_attr, struct hb_attr, dev);

	return sysfs_emit(buf, "%llu\n", hb_value(attr->node, attr->what));
}

static int hb_add_sysfs(struct hb_node *n)
{
	unsigned int i;

	for (i = 0; i < HB_NR_ATTRS; i++) {
		struct hb_attr *attr = &n->attr[i];

		sysfs_attr_init(&attr->dev.attr);
		attr->dev.attr.name = hb_attr_name[i];
		attr->dev.attr.mode = 0444;
		attr->dev.show = hb_show;
		attr->node = n;
		attr->what = i;
		n->attrs[i] = &attr->dev.attr;
	}
	snprintf(n->name, sizeof(n->name), "node%d", n->nid);
	n->group.name = n->name;
	n->group.attrs = n->attrs;
	return sysfs_create_group(&n->hb->vdev->dev.kobj, &n->group);
}

/*
 * Coming and going
 */

static void hb_free_request(struct hb_request *req)
{
	kfree(req->wire);
}

static int hb_init_request(struct hb_request *req)
{
	INIT_LIST_HEAD(&req->list);
	INIT_LIST_HEAD(&req->blocks);
	INIT_LIST_HEAD(&req->pages);
	req->wire = kzalloc(sizeof(*req->wire), GFP_KERNEL);
	return req->wire ? 0 : -ENOMEM;
}

/* Which of our nodes the device means. */
static int hb_find_nid(struct hballoon *hb, u32 id)
{
	int nid = hb->nr_nodes == 1 ? first_online_node : NUMA_NO_NODE;

#ifdef CONFIG_ACPI_NUMA
	if (virtio_has_feature(hb->vdev, VIRTIO_HBALLOON_F_ACPI_PXM) &&
	    id < MAX_PXM_DOMAINS && pxm_to_node(id) != NUMA_NO_NODE)
		nid = pxm_to_node(id);
#endif
	if (nid == NUMA_NO_NODE || !node_state(nid, N_MEMORY)) {
		dev_err(&hb->vdev->dev, "the device's node %u is none of ours\n",
			id);
		return -ENODEV;
	}
	return nid;
}

static int hb_init_node(struct hballoon *hb, unsigned int index)
{
	const struct virtio_hballoon_node *c = &hb->config->node[index];
	struct hb_node *n = &hb->node[index];
	unsigned int i;
	int err;

	n->hb = hb;
	n->index = index;
	n->id = le32_to_cpu(c->id);
	n->size = round_down(le64_to_cpu(c->size), PAGE_SIZE);
	n->target = n->size;
	n->generation = U64_MAX;
	n->stalled = U64_MAX;
	n->nr_extents = le32_to_cpu(c->nr_extents);
	if (!n->nr_extents || n->nr_extents > VIRTIO_HBALLOON_MAX_EXTENTS) {
		dev_err(&hb->vdev->dev, "node %u has %u extents; 1 to %u are possible\n",
			n->id, n->nr_extents, VIRTIO_HBALLOON_MAX_EXTENTS);
		return -EINVAL;
	}
	for (i = 0; i < n->nr_extents; i++) {
		u64 addr = le64_to_cpu(c->extent[i].addr);

		n->extent[i].start_pfn = PFN_UP(addr);
		n->extent[i].end_pfn =
			PFN_DOWN(addr + le64_to_cpu(c->extent[i].len));
	}
	n->nid = hb_find_nid(hb, n->id);
	if (n->nid < 0)
		return n->nid;

	n->status = kzalloc(sizeof(*n->status), GFP_KERNEL);
	if (!n->status)
		return -ENOMEM;
	for (i = 0; i < HB_NR_REQUESTS; i++) {
		err = hb_init_request(&n->request[i]);
		if (err)
			return err;
		list_add(&n->request[i].list, &n->idle);
	}
	return 0;
}

static void hb_free(struct hballoon *hb)
{
	unsigned int i, j;

	for (i = 0; i < hb->nr_nodes; i++) {
		for (j = 0; j < HB_NR_REQUESTS; j++)
			hb_free_request(&hb->node[i].request[j]);
		kfree(hb->node[i].status);
	}
	hb_free_request(&hb->xreq);
	kfree(hb->config);
	if (hb->wq)
		destroy_workqueue(hb->wq);
	kfree(hb);
}

/* Everything that needs no device. */
static struct hballoon *hb_new(struct virtio_device *vdev,
			       unsigned int nr_nodes)
{
	struct hballoon *hb;
	unsigned int i;

	hb = kzalloc(struct_size(hb, node, nr_nodes), GFP_KERNEL);
	if (!hb)
		return NULL;
	hb->nr_nodes = nr_nodes;
	hb->vdev = vdev;
	spin_lock_init(&hb->vq_lock);
	spin_lock_init(&hb->stop_lock);
	mutex_init(&hb->config_lock);
	mutex_init(&hb->xlock);
	init_waitqueue_head(&hb->acked);
	for (i = 0; i < nr_nodes; i++) {
		struct hb_node *n = &hb->node[i];

		spin_lock_init(&n->lock);
		INIT_LIST_HEAD(&n->blocks);
		INIT_LIST_HEAD(&n->foreign);
		INIT_LIST_HEAD(&n->idle);
		INIT_LIST_HEAD(&n->inflight);
		INIT_DELAYED_WORK(&n->work, hb_work);
		balloon_devinfo_init(&n->pages);
#ifdef CONFIG_BALLOON_COMPACTION
		n->pages.migratepage = hb_migratepage;
#endif
	}
	hb->config = kcalloc(HB_CONFIG_WORDS(nr_nodes), 8, GFP_KERNEL);
	hb->wq = alloc_workqueue("hballoon", WQ_FREEZABLE | WQ_UNBOUND, 0);
	if (!hb->config || !hb->wq || hb_init_request(&hb->xreq)) {
		hb_free(hb);
		return NULL;
	}
	return hb;
}

static int hb_init_vqs(struct hballoon *hb)
{
	struct virtqueue_info info[] = {
		[VIRTIO_HBALLOON_VQ_REQUEST] = { "request", hb_request_acked },
		[VIRTIO_HBALLOON_VQ_STATUS] = { "status", hb_status_acked },
		[VIRTIO_HBALLOON_VQ_REPORTING] = { "reporting",
						   hb_reporting_acked },
	};
	struct virtqueue *vqs[ARRAY_SIZE(info)] = {};
	unsigned int nr = ARRAY_SIZE(info);
	int err;

	if (!virtio_has_feature(hb->vdev, VIRTIO_HBALLOON_F_REPORTING))
		nr--;
	err = virtio_find_vqs(hb->vdev, nr, vqs, info, NULL);
	if (err)
		return err;
	hb->request_vq = vqs[VIRTIO_HBALLOON_VQ_REQUEST];
	hb->status_vq = vqs[VIRTIO_HBALLOON_VQ_STATUS];
	hb->reporting_vq = vqs[VIRTIO_HBALLOON_VQ_REPORTING];
	return 0;
}

/* No work and no waiting from here on. */
static void hb_quiesce(struct hballoon *hb)
{
	unsigned int i;

	spin_lock_irq(&hb->stop_lock);
	hb->stop = true;
	spin_unlock_irq(&hb->stop_lock);
	wake_up_all(&hb->acked);
	for (i = 0; i < hb->nr_nodes; i++)
		cancel_delayed_work_sync(&hb->node[i].work);
	/* Wait for who waits for an answer at once. */
	mutex_lock(&hb->xlock);
	mutex_unlock(&hb->xlock);
}

/* The device holds nothing any more: a request in flight is void. */
static void hb_void_request(struct hb_node *n, struct hb_request *req)
{
	if (le16_to_cpu(req->wire->head.type) == VIRTIO_HBALLOON_REQ_DEFLATE)
		hb_deflated(n, req);
	else
		hb_drop(req);
	hb_reset_request(req);
}

static void hb_free_all_held(struct hb_node *n)
{
	struct hb_request *req, *next;
	struct page *page;
	LIST_HEAD(pages);
	size_t nr;

	list_for_each_entry_safe(req, next, &n->inflight, list) {
		hb_void_request(n, req);
		list_move(&req->list, &n->idle);
	}
	while ((page = hb_take_block(n))) {
		hb_free_block(page);
		atomic_long_sub(HB_BLOCK_PAGES, &n->nr_held);
		cond_resched();
	}
	/* Those that compaction has isolated come back. */
	while (atomic_long_read(&n->nr_held) > 0) {
		nr = balloon_page_list_dequeue(&n->pages, &pages,
					       HB_BLOCK_PAGES);
		hb_free_pages(&pages);
		atomic_long_sub(nr, &n->nr_held);
		if (!nr)
			schedule_timeout_idle(1);
		cond_resched();
	}
}

static void hb_drain_vq(struct virtqueue *vq)
{
	while (vq && virtqueue_detach_unused_buf(vq))
		;
}

/*
 * Give all memory back: by a reset, which cannot fail and asks no host that
 * may not answer. Then the guest may use the memory.
 */
static void hb_shut_down(struct hballoon *hb)
{
	unsigned int i;

	virtio_reset_device(hb->vdev);
	hb_drain_vq(hb->request_vq);
	hb_drain_vq(hb->status_vq);
	hb_drain_vq(hb->reporting_vq);
	hb->vdev->config->del_vqs(hb->vdev);
	if (hb->xnode)
		hb_void_request(hb->xnode, &hb->xreq);
	hb->xnode = NULL;
	for (i = 0; i < hb->nr_nodes; i++) {
		struct hb_node *n = &hb->node[i];

		hb_free_all_held(n);
		n->status_busy = false;
		n->generation = U64_MAX;
		n->stalled = U64_MAX;
		n->reported = 0;
		n->reason = 0;
	}
}

static void hb_start(struct hballoon *hb)
{
	hb->stop = false;
	hb->dead = false;
	virtio_device_ready(hb->vdev);
	hb_schedule_all(hb);
}

static int hb_register(struct hballoon *hb)
{
	int err;

	hb->memory_nb.notifier_call = hb_memory_notify;
	err = register_memory_notifier(&hb->memory_nb);
	if (err)
		return err;
	if (virtio_has_feature(hb->vdev, VIRTIO_HBALLOON_F_DEFLATE_ON_OOM)) {
		hb->oom_nb.notifier_call = hb_oom_notify;
		err = register_oom_notifier(&hb->oom_nb);
		if (err)
			goto err_memory;
	}
	if (hb->reporting_vq) {
		hb->reporting.report = hb_report_free;
		err = page_reporting_register(&hb->reporting);
		if (err)
			goto err_oom;
	}
	return 0;

err_oom:
	if (hb->oom_nb.notifier_call)
		unregister_oom_notifier(&hb->oom_nb);
err_memory:
	unregister_memory_notifier(&hb->memory_nb);
	return err;
}

static void hb_unregister(struct hballoon *hb)
{
	if (hb->reporting_vq)
		page_reporting_unregister(&hb->reporting);
	if (hb->oom_nb.notifier_call)
		unregister_oom_notifier(&hb->oom_nb);
	unregister_memory_notifier(&hb->memory_nb);
}

static int hb_probe(struct virtio_device *vdev)
{
	struct hballoon *hb;
	u32 nr_nodes, max_ranges;
	unsigned int i;
	int err;

	virtio_cread_le(vdev, struct virtio_hballoon_config, num_nodes,
			&nr_nodes);
	virtio_cread_le(vdev, struct virtio_hballoon_config, max_ranges,
			&max_ranges);
	if (!nr_nodes || nr_nodes > VIRTIO_HBALLOON_MAX_NODES ||
	    max_ranges < 2) {
		dev_err(&vdev->dev, "%u nodes and %u ranges per request make no device\n",
			nr_nodes, max_ranges);
		return -EINVAL;
	}
	hb = hb_new(vdev, nr_nodes);
	if (!hb)
		return -ENOMEM;
	vdev->priv = hb;
	hb->max_ranges = min(max_ranges, HB_REQ_RANGES);
	__virtio_cread_many(vdev, 0, hb->config, HB_CONFIG_WORDS(nr_nodes), 8);
	for (i = 0; i < nr_nodes; i++) {
		err = hb_init_node(hb, i);
		if (err)
			goto err_free;
	}
	err = hb_init_vqs(hb);
	if (err)
		goto err_free;
	for (i = 0; i < nr_nodes; i++) {
		err = hb_add_sysfs(&hb->node[i]);
		if (err)
			goto err_sysfs;
	}
	err = hb_register(hb);
	if (err)
		goto err_sysfs;
	hb_start(hb);
	return 0;

err_sysfs:
	while (i-- > 0)
		sysfs_remove_group(&vdev->dev.kobj, &hb->node[i].group);
	vdev->config->del_vqs(vdev);
err_free:
	hb_free(hb);
	return err;
}

static void hb_remove(struct virtio_device *vdev)
{
	struct hballoon *hb = vdev->priv;
	unsigned int i;

	hb_unregister(hb);
	hb_quiesce(hb);
	for (i = 0; i < hb->nr_nodes; i++)
		sysfs_remove_group(&vdev->dev.kobj, &hb->node[i].group);
	hb_shut_down(hb);
	hb_free(hb);
}

#ifdef CONFIG_PM_SLEEP
static int hb_freeze(struct virtio_device *vdev)
{
	struct hballoon *hb = vdev->priv;

	hb_quiesce(hb);
	hb_shut_down(hb);
	return 0;
}

static int hb_restore(struct virtio_device *vdev)
{
	struct hballoon *hb = vdev->priv;
	int err = hb_init_vqs(hb);

	if (!err)
		hb_start(hb);
	return err;
}
#endif

static int hb_validate(struct virtio_device *vdev)
{
	/* A reported page comes back as zeroes, not as it was left. */
	if (page_poisoning_enabled_static())
		__virtio_clear_bit(vdev, VIRTIO_HBALLOON_F_REPORTING);
	/* Sending never allocates. */
	__virtio_clear_bit(vdev, VIRTIO_RING_F_INDIRECT_DESC);
	/* Addresses in ranges are physical, whatever the device's own are. */
	__virtio_clear_bit(vdev, VIRTIO_F_ACCESS_PLATFORM);
	return 0;
}

static const struct virtio_device_id hb_id_table[] = {
	{ VIRTIO_ID_HBALLOON, VIRTIO_DEV_ANY_ID },
	{ 0 },
};

static const unsigned int hb_features[] = {
	VIRTIO_HBALLOON_F_ACPI_PXM,
	VIRTIO_HBALLOON_F_REPORTING,
	VIRTIO_HBALLOON_F_DEFLATE_ON_OOM,
	VIRTIO_HBALLOON_F_STATS,
};

static struct virtio_driver hb_driver = {
	.feature_table = hb_features,
	.feature_table_size = ARRAY_SIZE(hb_features),
	.driver.name = KBUILD_MODNAME,
	.id_table = hb_id_table,
	.validate = hb_validate,
	.probe = hb_probe,
	.remove = hb_remove,
	.config_changed = hb_config_changed,
#ifdef CONFIG_PM_SLEEP
	.freeze = hb_freeze,
	.restore = hb_restore,
#endif
};

#ifdef CONFIG_VIRTIO_HBALLOON_KUNIT_TEST
#include "tests/virtio_hballoon_kunit.c"
#endif

module_virtio_driver(hb_driver);
MODULE_DEVICE_TABLE(virtio, hb_id_table);
MODULE_DESCRIPTION("HBalloon: a balloon for each memory node");
MODULE_LICENSE("GPL");
