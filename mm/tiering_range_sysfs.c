// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: /sys/kernel/mm/hplacement/
 *
 * Documentation/ABI/testing/sysfs-kernel-mm-tiering-range describes the files.
 */
#include <linux/kobject.h>
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/sysfs.h>

#include "tiering_range_internal.h"
#include "tiering_range.h"

/**
 * struct hpl_knob - a number in sysfs
 * @attr: its file
 * @value: where it is kept
 * @min: smallest value allowed
 * @max: largest value allowed
 */
struct hpl_knob {
	struct kobj_attribute attr;
	unsigned int *value;
	unsigned int min;
	unsigned int max;
};

static ssize_t knob_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	struct hpl_knob *knob = container_of(attr, struct hpl_knob, attr);

	return sysfs_emit(buf, "%u\n", READ_ONCE(*knob->value));
}

static ssize_t knob_store(struct kobject *kobj, struct kobj_attribute *attr,
			  const char *buf, size_t count)
{
	struct hpl_knob *knob = container_of(attr, struct hpl_knob, attr);
	unsigned int value;
	int err = kstrtouint(buf, 0, &value);

	if (err)
		return err;
	if (value < knob->min || value > knob->max)
		return -ERANGE;
	WRITE_ONCE(*knob->value, value);
	return count;
}

#define HPL_KNOB(name, lowest, highest)					\
	static struct hpl_knob knob_##name = {				\
		.attr = __ATTR(name, 0600, knob_show, knob_store),	\
		.value = &hpl_knobs.name,				\
		.min = lowest,						\
		.max = highest,						\
	}

/* An epoch holds four sampling intervals of at least 1 ms. */
HPL_KNOB(epoch_ms, 10, 60000);
HPL_KNOB(overhead_permille, 1, 1000);
/* 1 TiB/s: far above any memory. */
HPL_KNOB(migrate_mbps, 1, 1024 * 1024);
/* At 128 bytes each, 64 Ki ranges are 8 MiB a process. */
HPL_KNOB(max_ranges, 16, 65536);

static ssize_t enabled_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return sysfs_emit(buf, "%d\n", hpl_enabled());
}

static ssize_t enabled_store(struct kobject *kobj, struct kobj_attribute *attr,
			     const char *buf, size_t count)
{
	bool on;
	int err = kstrtobool(buf, &on);

	if (!err)
		err = hpl_enable(on);
	return err ?: count;
}

static struct kobj_attribute enabled_attr = __ATTR_RW_MODE(enabled, 0600);

/*
 * The source that was asked for stands in brackets. While abit is the only one,
 * "auto" means abit, and a choice needs no restart.
 */
static const char * const source_names[] = { "auto", "abit" };
static unsigned int source_chosen;

static ssize_t sample_source_show(struct kobject *kobj,
				  struct kobj_attribute *attr, char *buf)
{
	unsigned int chosen = READ_ONCE(source_chosen);

	return sysfs_emit(buf, "%s\n", chosen ? "auto [abit]" : "[auto] abit");
}

static ssize_t sample_source_store(struct kobject *kobj,
				   struct kobj_attribute *attr, const char *buf,
				   size_t count)
{
	int i = sysfs_match_string(source_names, buf);

	if (i < 0)
		return i;
	WRITE_ONCE(source_chosen, i);
	return count;
}

static struct kobj_attribute sample_source_attr =
	__ATTR_RW_MODE(sample_source, 0600);

/* How pages change tiers; the method in brackets is the one in use. */
static ssize_t migrate_method_show(struct kobject *kobj,
				   struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", READ_ONCE(hpl_knobs.exchange) ?
			  "migrate [exchange]" : "[migrate] exchange");
}

static ssize_t migrate_method_store(struct kobject *kobj,
				    struct kobj_attribute *attr,
				    const char *buf, size_t count)
{
	static const char * const names[] = { "migrate", "exchange" };
	int i = sysfs_match_string(names, buf);

	if (i < 0)
		return i;
	WRITE_ONCE(hpl_knobs.exchange, i);
	return count;
}

static struct kobj_attribute migrate_method_attr =
	__ATTR_RW_MODE(migrate_method, 0600);

static struct attribute *hpl_attrs[] = {
	&enabled_attr.attr,
	&sample_source_attr.attr,
	&knob_epoch_ms.attr.attr,
	&knob_overhead_permille.attr.attr,
	&knob_migrate_mbps.attr.attr,
	&migrate_method_attr.attr,
	&knob_max_ranges.attr.attr,
	NULL
};

static const struct attribute_group hpl_group = {
	.name = "hplacement",
	.attrs = hpl_attrs,
};

/**
 * hpl_sysfs_init - make the files
 *
 * Return: 0 or an error of sysfs_create_group().
 */
int __init hpl_sysfs_init(void)
{
	return sysfs_create_group(mm_kobj, &hpl_group);
}
