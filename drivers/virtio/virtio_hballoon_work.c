// SPDX-License-Identifier: GPL-2.0
/*
 * HBalloon: the worker of a node, which brings it to its target
 */
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/virtio_config.h>

#include <trace/events/hballoon.h>
#include "virtio_hballoon.h"

/* How long to wait after a failure that followed a wait of @ms. */
unsigned int hb_next_backoff(unsigned int ms, bool told_host)
{
	unsigned int max = told_host ? HB_BACKOFF_IDLE_MS : HB_BACKOFF_MAX_MS;

	return clamp(ms * 2, HB_BACKOFF_MIN_MS, max);
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

void hb_schedule_all(struct hballoon *hb)
{
	unsigned int i;

	for (i = 0; i < hb->nr_nodes; i++)
		hb_schedule(&hb->node[i], 0);
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

static void hb_work_locked(struct hb_node *n)
{
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

void hb_work(struct work_struct *work)
{
	struct hb_node *n = container_of(to_delayed_work(work), struct hb_node,
					 work);

	mutex_lock(&n->work_lock);
	hb_work_locked(n);
	hb_unlock_worker(n);
}

/*
 * Have the worker end early, and keep it out. Returns false if it does not end
 * soon, as when it waits for a host that is silent.
 */
bool hb_lock_worker(struct hb_node *n)
{
	atomic_inc(&n->hb->config_seq);
	return wait_event_timeout(n->hb->acked, mutex_trylock(&n->work_lock),
				  msecs_to_jiffies(HB_SILENCE_MS));
}

void hb_unlock_worker(struct hb_node *n)
{
	mutex_unlock(&n->work_lock);
	wake_up_all(&n->hb->acked);
}

void hb_config_changed(struct virtio_device *vdev)
{
	struct hballoon *hb = vdev->priv;

	if (vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_NEEDS_RESET) {
		hb_give_up(hb, "the device wants a reset");
		return;
	}
	atomic_inc(&hb->config_seq);
	hb_schedule_all(hb);
}
