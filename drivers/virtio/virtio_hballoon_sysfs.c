// SPDX-License-Identifier: GPL-2.0
/*
 * HBalloon: a directory of each node in sysfs
 */
#include <linux/device.h>
#include <linux/sysfs.h>

#include "virtio_hballoon.h"

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
	[HB_NR_VALUES + HB_REPORTED] = "reported",
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

int hb_add_sysfs(struct hb_node *n)
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
