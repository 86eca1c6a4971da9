// SPDX-License-Identifier: GPL-2.0
/*
 * HBalloon: allocating, holding and freeing the memory of a node
 */
#include <linux/balloon_compaction.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/swap.h>
#include <linux/tiering_demote.h>
#include <linux/vmstat.h>

#include "virtio_hballoon.h"

/* Single pages that are handled at once, with a lock held or on the stack. */
#define HB_BATCH		64

/* Foreign pages with the node's id that may be set aside, in pages. */
#define HB_MAX_FOREIGN		(SZ_64M >> PAGE_SHIFT)

/* The largest order not above @order whose block is not more than @nr pages. */
int hb_fit_order(int order, unsigned long nr)
{
	return min(order, ilog2(nr));
}

/* Are all of these pages the device's? */
bool hb_owns(const struct hb_node *n, unsigned long pfn,
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
 * Holding memory
 */

/*
 * Like balloon_page_list_enqueue(), but for pages that compaction may have
 * seen here before and still be looking at: such a page is waited for, with the
 * list unlocked.
 */
static void hb_enqueue(struct hb_node *n, struct list_head *pages)
{
	struct page *page, *next;
	unsigned long flags;
	unsigned int nr = 0;

	spin_lock_irqsave(&n->pages.pages_lock, flags);
	list_for_each_entry_safe(page, next, pages, lru) {
		bool locked = trylock_page(page);

		if (!locked || ++nr % HB_BATCH == 0) {
			spin_unlock_irqrestore(&n->pages.pages_lock, flags);
			if (!locked)
				lock_page(page);
			spin_lock_irqsave(&n->pages.pages_lock, flags);
		}
		list_del(&page->lru);
		balloon_page_insert(&n->pages, page);
		unlock_page(page);
	}
	spin_unlock_irqrestore(&n->pages.pages_lock, flags);
}

/* Pages of a list become managed, or cease to be. Returns how many there are. */
static unsigned long hb_adjust_managed(struct list_head *pages, int sign)
{
	struct page *page, *first = NULL;
	unsigned long nr = 0, all = 0;

	/* All are of one node, but perhaps not of one zone. */
	list_for_each_entry(page, pages, lru) {
		if (first && page_zone(page) != page_zone(first)) {
			adjust_managed_page_count(first, sign * (long)nr);
			first = NULL;
		}
		if (!first) {
			first = page;
			nr = 0;
		}
		nr++;
		all++;
	}
	if (first)
		adjust_managed_page_count(first, sign * (long)nr);
	return all;
}

static void hb_hold_block(struct hb_node *n, struct page *page)
{
	unsigned long i;

	for (i = 0; i < HB_BLOCK_PAGES; i++)
		__SetPageOffline(page + i);
	adjust_managed_page_count(page, -(long)HB_BLOCK_PAGES);
	spin_lock(&n->lock);
	list_add(&page->lru, &n->blocks);
	n->nr_blocks++;
	spin_unlock(&n->lock);
	atomic_long_add(HB_BLOCK_PAGES, &n->nr_held);
}

struct page *hb_take_block(struct hb_node *n)
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

/*
 * Take up to @max held single pages of [@start, @end) off their list, but none
 * that others look at. Returns how many.
 */
unsigned long hb_take_pages(struct hb_node *n, unsigned long start,
			    unsigned long end, unsigned long max,
			    struct list_head *pages)
{
	struct page *page, *next;
	unsigned long flags, nr = 0;

	spin_lock_irqsave(&n->pages.pages_lock, flags);
	list_for_each_entry_safe(page, next, &n->pages.pages, lru) {
		if (nr == max)
			break;
		if (page_to_pfn(page) < start || page_to_pfn(page) >= end ||
		    !trylock_page(page))
			continue;
		list_del(&page->lru);
		balloon_page_finalize(page);
		unlock_page(page);
		list_add(&page->lru, pages);
		nr++;
	}
	spin_unlock_irqrestore(&n->pages.pages_lock, flags);
	return nr;
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
void hb_free_block(struct page *page)
{
	unsigned long i;

	for (i = 0; i < HB_BLOCK_PAGES; i++)
		__ClearPageOffline(page + i);
	adjust_managed_page_count(page, HB_BLOCK_PAGES);
	__free_pages(page, HB_BLOCK_ORDER);
}

/* Make a block that was taken into held single pages, all of them movable. */
void hb_split_block(struct hb_node *n, struct page *page)
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

static void hb_hold_pages(struct hb_node *n, struct list_head *pages)
{
	unsigned long nr = hb_adjust_managed(pages, -1);

	hb_enqueue(n, pages);
	atomic_long_add(nr, &n->nr_held);
}

/* Single pages that were taken and that the host has released. */
void hb_free_pages(struct list_head *pages)
{
	struct page *page, *next;

	hb_adjust_managed(pages, 1);
	list_for_each_entry_safe(page, next, pages, lru) {
		list_del(&page->lru);
		put_page(page);
	}
}

/* Free what has been allocated, but not held. */
void hb_drop(struct hb_request *req)
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

void hb_drop_foreign(struct hb_node *n)
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

static gfp_t hb_gfp(struct hb_node *n, int order)
{
	gfp_t gfp = balloon_mapping_gfp_mask() | __GFP_THISNODE |
		    __GFP_NOMEMALLOC | __GFP_NORETRY | __GFP_NOWARN;

	/* Reclaim is for single pages that cannot be had otherwise. */
	if (order || !n->reclaim)
		gfp &= ~__GFP_RECLAIM;
	return gfp;
}

static bool hb_is_own(struct hb_node *n, struct page *page, int order)
{
	return page_to_nid(page) == n->nid &&
	       hb_owns(n, page_to_pfn(page), 1UL << order);
}

/*
 * Keep a page that is not the device's for now, or it will be found again.
 * Returns false, with the page freed, if there is no use in it.
 */
static bool hb_set_aside(struct hb_node *n, struct page *page, int order)
{
	bool wrong = page_to_nid(page) != n->nid;

	if (wrong)
		hb_count(n, HB_WRONG_NODE, 1UL << order);
	if (wrong || n->nr_foreign + (1UL << order) > HB_MAX_FOREIGN) {
		__free_pages(page, order);
		return false;
	}
	set_page_private(page, order);
	list_add(&page->lru, &n->foreign);
	n->nr_foreign += 1UL << order;
	return true;
}

/* Allocate 2^@order pages of the device's part of the node, or NULL. */
struct page *hb_alloc_own(struct hb_node *n, int order)
{
	struct page *page;

	while ((page = alloc_pages_node(n->nid, hb_gfp(n, order), order))) {
		if (likely(hb_is_own(n, page, order)))
			return page;
		if (!hb_set_aside(n, page, order))
			break;
	}
	return NULL;
}

/* Add 2^@order pages to @req. Returns false if there are none to be had. */
static bool hb_fill_one(struct hb_node *n, struct hb_request *req, int order)
{
	struct page *page = hb_alloc_own(n, order);
	unsigned long i;

	if (!page)
		return false;
	hb_add_range(req, n->hb->max_ranges, page_to_pfn(page), 1UL << order);
	if (order == HB_BLOCK_ORDER) {
		list_add_tail(&page->lru, &req->blocks);
		return true;
	}
	split_page(page, order);
	for (i = 0; i < 1UL << order; i++)
		list_add_tail(&page[i].lru, &req->pages);
	return true;
}

/* The same for up to @nr single pages, for which @req has room. */
static bool hb_fill_singles(struct hb_node *n, struct hb_request *req,
			    unsigned long nr)
{
	struct page *pages[HB_BATCH] = {};
	unsigned long i, nr_own = 0;

	nr = min3(nr, (unsigned long)HB_BATCH,
		  (unsigned long)(n->hb->max_ranges - req->nr_ranges));
	nr = alloc_pages_bulk_array_node(hb_gfp(n, 0), n->nid, nr, pages);
	for (i = 0; i < nr; i++) {
		if (!hb_is_own(n, pages[i], 0)) {
			hb_set_aside(n, pages[i], 0);
			continue;
		}
		hb_add_range(req, n->hb->max_ranges, page_to_pfn(pages[i]), 1);
		list_add_tail(&pages[i]->lru, &req->pages);
		nr_own++;
	}
	return nr_own;
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
unsigned int hb_fill(struct hb_node *n, struct hb_request *req,
		     unsigned long want)
{
	unsigned long max = min(want, (unsigned long)(HB_REQ_BYTES >> PAGE_SHIFT));

	while (req->nr_pages < max && req->nr_ranges < n->hb->max_ranges) {
		unsigned long room = max - req->nr_pages;
		int order = hb_fit_order(n->order, room);

		if (order ? hb_fill_one(n, req, order) :
			    hb_fill_singles(n, req, room)) {
			cond_resched();
			continue;
		}
		/* A smaller remainder says nothing of larger blocks. */
		if (order < n->order)
			n->order = order;
		/* What is free all the same is below the zones' watermarks. */
		if (!hb_make_room(n, want))
			return hb_zone_pages(n->nid, NR_FREE_PAGES) >=
			       want - req->nr_pages ?
			       VIRTIO_HBALLOON_REASON_FLOOR :
			       VIRTIO_HBALLOON_REASON_NO_MEMORY;
	}
	return 0;
}

void hb_inflated(struct hb_node *n, struct hb_request *req)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &req->blocks, lru) {
		list_del(&page->lru);
		hb_hold_block(n, page);
	}
	hb_hold_pages(n, &req->pages);
	hb_count(n, HB_INFLATED, req->nr_pages);
	count_vm_events(BALLOON_INFLATE, req->nr_pages);
}

/*
 * Deflating
 */

/* Take up to @max held pages, blocks first, into @req. */
void hb_drain(struct hb_node *n, struct hb_request *req,
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
	if (!hb_take_pages(n, 0, ULONG_MAX, room, &pages)) {
		page = req->nr_pages ? NULL : hb_take_block(n);
		if (!page)
			return;
		hb_split_block(n, page);
		hb_take_pages(n, 0, ULONG_MAX, room, &pages);
	}
	list_for_each_entry(page, &pages, lru)
		hb_add_range(req, n->hb->max_ranges, page_to_pfn(page), 1);
	list_splice_tail(&pages, &req->pages);
}

void hb_count_deflated(struct hb_node *n, unsigned long nr)
{
	atomic_long_sub(nr, &n->nr_held);
	hb_count(n, HB_DEFLATED, nr);
	count_vm_events(BALLOON_DEFLATE, nr);
}

void hb_deflated(struct hb_node *n, struct hb_request *req)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &req->blocks, lru) {
		list_del(&page->lru);
		hb_free_block(page);
	}
	hb_free_pages(&req->pages);
	hb_count_deflated(n, req->nr_pages);
}

/* Hold again what was taken off the lists. */
void hb_put_back(struct hb_node *n, struct list_head *blocks,
		 struct list_head *pages)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, blocks, lru) {
		list_del(&page->lru);
		hb_put_back_block(n, page);
	}
	hb_enqueue(n, pages);
}

/* The host would not: hold again what was taken. */
void hb_undrain(struct hb_node *n, struct hb_request *req)
{
	hb_put_back(n, &req->blocks, &req->pages);
}

/* The host has taken @to, of @order 0 or a block, for @from. */
void hb_hold_instead(struct hb_node *n, struct page *to, struct page *from,
		     int order)
{
	LIST_HEAD(pages);

	if (order) {
		hb_hold_block(n, to);
		hb_free_block(from);
	} else {
		list_add(&to->lru, &pages);
		hb_hold_pages(n, &pages);
		list_add(&from->lru, &pages);
		hb_free_pages(&pages);
	}
	atomic_long_sub(1UL << order, &n->nr_held);
}
