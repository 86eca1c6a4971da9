// SPDX-License-Identifier: GPL-2.0
/*
 * HBalloon: requests and status messages on their way to the host and back
 */
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/psi.h>
#include <linux/vmstat.h>

#include <trace/events/hballoon.h>
#include "virtio_hballoon.h"

/*
 * Add @nr pages from @pfn on to the ranges of a request, joined with the last
 * one where they touch. Returns false, with nothing added, if there is no room.
 */
bool hb_add_range(struct hb_request *req, unsigned int max_ranges,
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

/* The device is of no use any more: let nobody wait for it. */
void hb_give_up(struct hballoon *hb, const char *why)
{
	if (!xchg(&hb->dead, true))
		dev_err(&hb->vdev->dev, "%s; memory stays as it is until the device is reset\n",
			why);
	wake_up_all(&hb->acked);
}

void hb_request_acked(struct virtqueue *vq)
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

void hb_status_acked(struct virtqueue *vq)
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

void hb_reporting_acked(struct virtqueue *vq)
{
	struct hballoon *hb = vq->vdev->priv;
	unsigned long flags;
	unsigned int len;

	spin_lock_irqsave(&hb->vq_lock, flags);
	while (virtqueue_get_buf(vq, &len))
		WRITE_ONCE(hb->report, HB_REPORT_DONE);
	spin_unlock_irqrestore(&hb->vq_lock, flags);
	wake_up_all(&hb->acked);
}

void hb_reset_request(struct hb_request *req)
{
	req->nr_pages = 0;
	req->nr_ranges = 0;
	req->done = false;
}

/* Returns 0, or an error with nothing sent. */
int hb_send(struct hb_node *n, struct hb_request *req, unsigned int type,
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

unsigned int hb_status_of(struct hb_node *n, struct hb_request *req)
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
 * The right to use @hb->xreq, which a host that is given up still has. Returns
 * false, with nothing locked, when there is no use in it any more.
 */
bool hb_lock_xreq(struct hballoon *hb)
{
	mutex_lock(&hb->xlock);
	if (!hb_stopped(hb))
		return true;
	mutex_unlock(&hb->xlock);
	return false;
}

/* The same, and false if somebody else uses it. */
bool hb_trylock_xreq(struct hballoon *hb)
{
	if (!mutex_trylock(&hb->xlock))
		return false;
	if (!hb_stopped(hb))
		return true;
	mutex_unlock(&hb->xlock);
	return false;
}

/*
 * Send @hb->xreq and wait for the answer: with bounds, for those whose caller
 * cannot wait forever. Returns the answer, or -errno; -ETIMEDOUT if the request
 * is still the host's, and the device dead.
 */
int hb_send_and_wait(struct hb_node *n, unsigned int type,
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

/* A counter of pages, summed over the zones of a node. */
u64 hb_zone_pages(int nid, enum zone_stat_item item)
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

void hb_send_status(struct hb_node *n, unsigned int type,
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
