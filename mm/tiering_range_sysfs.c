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
/* With more than half of it, there is no use in fast memory. */
HPL_KNOB(headroom_permille, 0, 500);
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

static const char * const source_names[] = {
	[HPL_CHOICE_AUTO] = "auto",
	[HPL_CHOICE_PEBS] = "pebs",
	[HPL_CHOICE_ABIT] = "abit",
};

/* The source that was asked for stands in brackets. */
static ssize_t sample_source_show(struct kobject *kobj,
				  struct kobj_attribute *attr, char *buf)
{
	enum hpl_choice choice = hpl_source_choice();
	int i, at = 0;

	for (i = 0; i < ARRAY_SIZE(source_names); i++)
		at += sysfs_emit_at(buf, at, i == choice ? "%s[%s]" : "%s%s",
				    i ? " " : "", source_names[i]);
	return at + sysfs_emit_at(buf, at, "\n");
}

static ssize_t sample_source_store(struct kobject *kobj,
				   struct kobj_attribute *attr, const char *buf,
				   size_t count)
{
	int i = sysfs_match_string(source_names, buf);
	int err = i < 0 ? i : hpl_source_choose(i);

	return err ?: count;
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

static ssize_t sample_source_in_use_show(struct kobject *kobj,
					 struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", hpl_source_in_use());
}

static struct kobj_attribute sample_source_in_use_attr =
	__ATTR(sample_source_in_use, 0400, sample_source_in_use_show, NULL);

static struct attribute *hpl_attrs[] = {
	&enabled_attr.attr,
	&sample_source_attr.attr,
	&sample_source_in_use_attr.attr,
	&knob_epoch_ms.attr.attr,
	&knob_overhead_permille.attr.attr,
	&knob_migrate_mbps.attr.attr,
	&knob_headroom_permille.attr.attr,
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
