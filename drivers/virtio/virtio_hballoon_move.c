// SPDX-License-Identifier: GPL-2.0
/*
 * HBalloon: held memory makes way, for compaction and for memory that goes
 * offline
 *
 * The host takes one piece of the node for another, as large, so this is
 * possible at any target.
 */
#include <linux/balloon_compaction.h>
#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/vmstat.h>

#include "virtio_hballoon.h"

/* How often to look for pages that others have isolated, one tick apart. */
#define HB_ISOLATED_TRIES	100

/*
 * Have the host take @to for @from, @nr pages each. Returns its answer, or
 * -errno; after -ETIMEDOUT @to may be the host's.
 */
static int hb_exchange(struct hb_node *n, struct page *to, struct page *from,
		       unsigned long nr)
{
	struct hb_request *req = &n->hb->xreq;
	struct virtio_hballoon_range *range = req->wire->range;

	lockdep_assert_held(&n->hb->xlock);
	hb_reset_request(req);
	req->nr_pages = nr;
	req->nr_ranges = 2;
	range[0].addr = cpu_to_le64(page_to_phys(to));
	range[1].addr = cpu_to_le64(page_to_phys(from));
	range[0].len = cpu_to_le64((u64)nr << PAGE_SHIFT);
	range[1].len = range[0].len;
	return hb_send_and_wait(n, VIRTIO_HBALLOON_REQ_EXCHANGE, 0);
}

static void hb_count_migrated(struct hb_node *n, unsigned long nr)
{
	hb_count(n, HB_MIGRATED, nr);
#ifdef CONFIG_BALLOON_COMPACTION
	count_vm_events(BALLOON_MIGRATE, nr);
#endif
}

#ifdef CONFIG_BALLOON_COMPACTION
/* Called with both pages locked; @page is isolated. */
int hb_migratepage(struct balloon_dev_info *pages, struct page *newpage,
		   struct page *page, enum migrate_mode mode)
{
	struct hb_node *n = container_of(pages, struct hb_node, pages);
	struct hballoon *hb = n->hb;
	unsigned long flags;
	int status;

	if (page_to_nid(newpage) != n->nid ||
	    !hb_owns(n, page_to_pfn(newpage), 1))
		return -EBUSY;
	/* With pages locked: who has xlock may want to lock a page. */
	if (!hb_trylock_xreq(hb))
		return -EAGAIN;
	status = hb_exchange(n, newpage, page, 1);
	if (status == VIRTIO_HBALLOON_RESP_OK || status == -ETIMEDOUT)
		get_page(newpage);
	if (status == -ETIMEDOUT)
		list_add(&newpage->lru, &hb->xreq.pages);
	mutex_unlock(&hb->xlock);
	if (status != VIRTIO_HBALLOON_RESP_OK)
		return status == VIRTIO_HBALLOON_RESP_BUSY ? -EAGAIN : -EBUSY;

	adjust_managed_page_count(newpage, -1);
	spin_lock_irqsave(&pages->pages_lock, flags);
	balloon_page_insert(pages, newpage);
	pages->isolated_pages--;
	spin_unlock_irqrestore(&pages->pages_lock, flags);
	hb_count_migrated(n, 1);

	balloon_page_finalize(page);
	adjust_managed_page_count(page, 1);
	put_page(page);
	return MIGRATEPAGE_SUCCESS;
}
#endif

/* Take what is held of [@start, @end) off the lists. */
static void hb_take_range(struct hb_node *n, unsigned long start,
			  unsigned long end, struct list_head *blocks,
			  struct list_head *pages)
{
	struct page *page, *next;

	spin_lock(&n->lock);
	list_for_each_entry_safe(page, next, &n->blocks, lru) {
		if (page_to_pfn(page) >= start && page_to_pfn(page) < end) {
			list_move(&page->lru, blocks);
			n->nr_blocks--;
		}
	}
	spin_unlock(&n->lock);
	hb_take_pages(n, start, end, ULONG_MAX, pages);
}

/* Could single pages be isolated by others, and so on no list? */
static bool hb_any_isolated(struct hb_node *n)
{
	unsigned long flags;
	bool any;

	spin_lock_irqsave(&n->pages.pages_lock, flags);
	any = n->pages.isolated_pages;
	spin_unlock_irqrestore(&n->pages.pages_lock, flags);
	return any;
}

/* @page, of @order 0 or a block, is off its list: hold other memory instead. */
static int hb_replace(struct hb_node *n, struct page *page, int order)
{
	struct hballoon *hb = n->hb;
	struct page *to = hb_alloc_own(n, order);
	int status = -ENODEV;

	if (!to)
		return -ENOMEM;
	if (hb_lock_xreq(hb)) {
		status = hb_exchange(n, to, page, 1UL << order);
		if (status == -ETIMEDOUT)
			list_add(&to->lru, order ? &hb->xreq.blocks :
				 &hb->xreq.pages);
		mutex_unlock(&hb->xlock);
	}
	if (status == VIRTIO_HBALLOON_RESP_OK) {
		hb_hold_instead(n, to, page, order);
		hb_count_migrated(n, 1UL << order);
		return 0;
	}
	if (status != -ETIMEDOUT)
		__free_pages(to, order);
	return -EBUSY;
}

/* Replace as much as possible of two lists; what is left on them is held. */
static int hb_replace_all(struct hb_node *n, struct list_head *blocks,
			  struct list_head *pages)
{
	struct page *page, *next;
	int err;

	list_for_each_entry_safe(page, next, blocks, lru) {
		list_del(&page->lru);
		err = hb_replace(n, page, HB_BLOCK_ORDER);
		if (err == -ENOMEM) {
			/* There may be room for it in pieces. */
			hb_split_block(n, page);
		} else if (err) {
			list_add(&page->lru, blocks);
			return err;
		}
		cond_resched();
	}
	list_for_each_entry_safe(page, next, pages, lru) {
		list_del(&page->lru);
		err = hb_replace(n, page, 0);
		if (err) {
			list_add(&page->lru, pages);
			return err;
		}
		cond_resched();
	}
	return 0;
}

/* Hold nothing in [@start, @end) any more. The worker is out. */
static int hb_evacuate(struct hb_node *n, unsigned long start,
		       unsigned long end)
{
	unsigned int tries = 0;
	int err = 0;

	/* No allocation finds the range, which is isolated. */
	n->reclaim = true;
	while (!err) {
		LIST_HEAD(blocks);
		LIST_HEAD(pages);

		hb_take_range(n, start, end, &blocks, &pages);
		if (list_empty(&blocks) && list_empty(&pages)) {
			if (!hb_any_isolated(n))
				break;
			if (tries++ == HB_ISOLATED_TRIES)
				err = -EBUSY;
			schedule_timeout_uninterruptible(1);
			continue;
		}
		err = hb_replace_all(n, &blocks, &pages);
		hb_put_back(n, &blocks, &pages);
	}
	n->reclaim = false;
	hb_drop_foreign(n);
	return err;
}

/*
 * The core would move pages to another node, which held memory does not do, and
 * would try forever: so either all is gone from there when this returns, or it
 * refuses. Allocations that are on their way to the host count as held: the
 * worker ends before.
 */
int hb_memory_notify(struct notifier_block *nb, unsigned long action,
		     void *arg)
{
	struct hballoon *hb = container_of(nb, struct hballoon, memory_nb);
	struct memory_notify *mn = arg;
	unsigned int i;
	int err = 0;

	if (action != MEM_GOING_OFFLINE)
		return NOTIFY_OK;
	for (i = 0; i < hb->nr_nodes && !err; i++) {
		struct hb_node *n = &hb->node[i];

		if (n->nid != page_to_nid(pfn_to_page(mn->start_pfn)))
			continue;
		if (!hb_lock_worker(n)) {
			err = -EBUSY;
			continue;
		}
		err = hb_evacuate(n, mn->start_pfn,
				  mn->start_pfn + mn->nr_pages);
		hb_unlock_worker(n);
	}
	return notifier_from_errno(err);
}
