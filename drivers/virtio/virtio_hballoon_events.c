// SPDX-License-Identifier: GPL-2.0
/*
 * HBalloon: what the rest of the kernel wants of held memory: compaction,
 * hot-unplug, out-of-memory conditions and the reporting of free pages
 */
#include <linux/balloon_compaction.h>
#include <linux/cpuset.h>
#include <linux/memory.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/page_reporting.h>

#include "virtio_hballoon.h"

/* What one out-of-memory condition may take back from one node. */
#define HB_OOM_PAGES		(SZ_4M >> PAGE_SHIFT)
/* How long a node is left alone after that, in ms. */
#define HB_OOM_HOLD_MS		60000

#ifdef CONFIG_BALLOON_COMPACTION
/* Called with both pages locked; @page is isolated. */
int hb_migratepage(struct balloon_dev_info *pages, struct page *newpage,
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

	adjust_managed_page_count(newpage, -1);
	spin_lock_irqsave(&pages->pages_lock, flags);
	balloon_page_insert(pages, newpage);
	pages->isolated_pages--;
	__count_vm_event(BALLOON_MIGRATE);
	spin_unlock_irqrestore(&pages->pages_lock, flags);
	hb_count(n, HB_MIGRATED, 1);

	balloon_page_finalize(page);
	adjust_managed_page_count(page, 1);
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
int hb_memory_notify(struct notifier_block *nb, unsigned long action,
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

int hb_oom_notify(struct notifier_block *nb, unsigned long unused,
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

int hb_report_free(struct page_reporting_dev_info *reporting,
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
