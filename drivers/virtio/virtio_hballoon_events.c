// SPDX-License-Identifier: GPL-2.0
/*
 * HBalloon: out-of-memory conditions, and the reporting of free pages
 */
#include <linux/cpuset.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/oom.h>
#include <linux/page_reporting.h>
#include <linux/vmstat.h>

#include "virtio_hballoon.h"

/* What one out-of-memory condition may take back from one node. */
#define HB_OOM_PAGES		(SZ_4M >> PAGE_SHIFT)
/* How long a node is left alone after that, in ms. */
#define HB_OOM_HOLD_MS		60000

/*
 * Is there nothing left on the node? An allocation that may use it has used it
 * up before it fails; one that fails though there is something may not use the
 * node, for reasons that are not known here, and more would not help it.
 */
static bool hb_is_used_up(struct hb_node *n)
{
	struct zone *zone = NODE_DATA(n->nid)->node_zones;
	int i;

	for (i = 0; i < MAX_NR_ZONES; i++, zone++) {
		if (populated_zone(zone) &&
		    zone_page_state(zone, NR_FREE_PAGES) >
		    high_wmark_pages(zone) + zone->lowmem_reserve[ZONE_NORMAL])
			return false;
	}
	return true;
}

/* Can memory of the node help the allocation that current cannot make? */
static bool hb_helps_current(struct hb_node *n)
{
	struct mempolicy *policy = current->mempolicy;

	if (!node_isset(n->nid, cpuset_current_mems_allowed) ||
	    !hb_is_used_up(n))
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

	/* Who has the lock does not allocate, so it will be free. */
	if (!hb_lock_xreq(hb))
		return NOTIFY_OK;
	/* The last node is the slowest one, which the host misses least. */
	for (i = hb->nr_nodes; i-- > 0 && !nr && !hb_stopped(hb);) {
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

/* The node that @page is on, if its free memory shall be reported; or NULL. */
static struct hb_node *hb_reporting_node(struct hballoon *hb, struct page *page)
{
	unsigned int i;

	for (i = 0; i < hb->nr_nodes; i++) {
		if (hb->node[i].reporting &&
		    hb->node[i].nid == page_to_nid(page))
			return &hb->node[i];
	}
	return NULL;
}

/*
 * Until this returns the pages are isolated and nobody uses them. So it does
 * not return before the host has answered, or the device been reset: a host
 * that is silent keeps them, 32 blocks at most.
 */
int hb_report_free(struct page_reporting_dev_info *reporting,
		   struct scatterlist *sg, unsigned int nents)
{
	struct hballoon *hb = container_of(reporting, struct hballoon,
					   reporting);
	/* What comes at once is of one zone. */
	struct hb_node *n = hb_reporting_node(hb, sg_page(sg));
	unsigned long flags, nr = 0;
	struct scatterlist *s;
	unsigned int i;
	int err = -ENODEV;

	/* An error would end the matter for the other nodes, too. */
	if (!n)
		return 0;

	spin_lock_irqsave(&hb->vq_lock, flags);
	if (!hb_stopped(hb) && hb->reporting_vq)
		err = virtqueue_add_inbuf(hb->reporting_vq, sg, nents, hb,
					  GFP_ATOMIC);
	if (!err) {
		WRITE_ONCE(hb->report, HB_REPORT_PENDING);
		virtqueue_kick(hb->reporting_vq);
	}
	spin_unlock_irqrestore(&hb->vq_lock, flags);
	if (err)
		return err;
	wait_event_idle(hb->acked, READ_ONCE(hb->report) != HB_REPORT_PENDING);
	if (READ_ONCE(hb->report) != HB_REPORT_DONE)
		return -EIO;
	for_each_sg(sg, s, nents, i)
		nr += s->length >> PAGE_SHIFT;
	hb_count(n, HB_REPORTED, nr);
	return 0;
}
