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
 * block becomes single pages when part of it is wanted. Before memory goes
 * offline, what is held of it is exchanged for other memory of the node. All
 * held pages are PG_offline and no longer managed.
 *
 * Suspend and hibernation give everything back, by a reset of the device, as
 * does unbinding; resume finds the targets and starts over. Memory that is
 * given back so is not touched, hence costs the host nothing.
 */
#include <linux/acpi.h>
#include <linux/memory.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/page_reporting.h>
#include <linux/slab.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <uapi/linux/virtio_ring.h>

#include "virtio_hballoon.h"

#define CREATE_TRACE_POINTS
#include <trace/events/hballoon.h>

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
	n->reporting = le32_to_cpu(c->flags) & VIRTIO_HBALLOON_NODE_REPORTING;
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
		mutex_init(&n->work_lock);
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
	/*
	 * Not freezable: a worker that waits for a host that is silent would
	 * keep the system from sleeping. hb_freeze() ends all work.
	 */
	hb->wq = alloc_workqueue("hballoon", WQ_UNBOUND, 0);
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
	unsigned long nr;

	list_for_each_entry_safe(req, next, &n->inflight, list) {
		hb_void_request(n, req);
		list_move(&req->list, &n->idle);
	}
	while ((page = hb_take_block(n))) {
		hb_free_block(page);
		hb_count_deflated(n, HB_BLOCK_PAGES);
		cond_resched();
	}
	/* Those that compaction has isolated come back. */
	while (atomic_long_read(&n->nr_held) > 0) {
		nr = hb_take_pages(n, 0, ULONG_MAX, HB_BLOCK_PAGES, &pages);
		hb_free_pages(&pages);
		hb_count_deflated(n, nr);
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
	/* Who reports pages has them back now. */
	spin_lock_irq(&hb->vq_lock);
	hb->reporting_vq = NULL;
	WRITE_ONCE(hb->report, HB_REPORT_VOID);
	spin_unlock_irq(&hb->vq_lock);
	wake_up_all(&hb->acked);
	hb->vdev->config->del_vqs(hb->vdev);
	/* Resume may fail to make new ones. */
	hb->request_vq = NULL;
	hb->status_vq = NULL;
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
	if (virtio_has_feature(hb->vdev, VIRTIO_HBALLOON_F_REPORTING)) {
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
	/* Not before the reset, which ends a report that the host keeps. */
	if (hb->reporting.report)
		page_reporting_unregister(&hb->reporting);
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

module_virtio_driver(hb_driver);
MODULE_DEVICE_TABLE(virtio, hb_id_table);
MODULE_DESCRIPTION("HBalloon: a balloon for each memory node");
MODULE_LICENSE("GPL");
