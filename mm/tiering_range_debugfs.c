// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: /sys/kernel/debug/hplacement/
 *
 * The file "ranges" has a line for each range of each process. It is no picture
 * of one moment: while its reader has what he has read, no lock is held, and
 * processes and ranges come and go. What he is shown next has higher addresses,
 * so that no byte is shown twice; a range that has changed may be left out.
 *
 * Only root may read it, as addresses of processes are nobody else's business.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/seq_file.h>
#include <linux/time64.h>
#include <linux/xarray.h>

#include "tiering_range_internal.h"
#include "tiering_range.h"

/**
 * struct hpl_cursor - how far a reader has come
 * @mm: of the process that comes next, an index of hpl_mm_index
 * @addr: in that process, where its next range begins at the least
 * @hm: the process; valid while hpl_mms_lock is held
 * @range: the range; valid while hpl_mms_lock is held
 */
struct hpl_cursor {
	unsigned long mm;
	unsigned long addr;
	struct hpl_mm *hm;
	struct hpl_range *range;
};

/* The first range that begins at @addr or behind it. */
static struct hpl_range *range_from(struct hpl_tree *tree, unsigned long addr)
{
	struct rb_node *n = tree->root.rb_node;
	struct hpl_range *found = NULL;

	while (n) {
		struct hpl_range *r = rb_entry(n, struct hpl_range, node);

		if (r->start >= addr) {
			found = r;
			n = n->rb_left;
		} else {
			n = n->rb_right;
		}
	}
	return found;
}

/* Find what comes next; returns @c, or NULL at the end. */
static struct hpl_cursor *cursor_find(struct hpl_cursor *c)
{
	unsigned long mm = c->mm;

	lockdep_assert_held(&hpl_mms_lock);
	while ((c->hm = xa_find(&hpl_mm_index, &c->mm, ULONG_MAX, XA_PRESENT))) {
		if (c->mm != mm)
			c->addr = 0;
		c->range = range_from(&c->hm->tree, c->addr);
		if (c->range) {
			c->addr = c->range->start;
			return c;
		}
		mm = c->mm++;
	}
	return NULL;
}

/* The lock is held until ranges_stop(), for a buffer of lines at most. */
static void *ranges_start(struct seq_file *m, loff_t *pos)
{
	struct hpl_cursor *c = m->private;
	int err = mutex_lock_killable(&hpl_mms_lock);

	if (err)
		return ERR_PTR(err);
	if (*pos)
		return cursor_find(c);
	*c = (struct hpl_cursor){};
	return SEQ_START_TOKEN;
}

static void *ranges_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct hpl_cursor *c = m->private;

	++*pos;
	if (v != SEQ_START_TOKEN)
		c->addr = c->range->end;
	return cursor_find(c);
}

static void ranges_stop(struct seq_file *m, void *v)
{
	if (!IS_ERR(v))
		mutex_unlock(&hpl_mms_lock);
}

/* @num / @den in @unit, or that it is not known. */
static void show_ratio(struct seq_file *m, u64 num, u64 den, u64 unit)
{
	if (den)
		seq_printf(m, " %llu", div64_u64(num * unit, den));
	else
		seq_puts(m, " -");
}

/*
 * Heat by the source's own measure: of the resident pages looked at, how many
 * were found accessed within the sampling interval; or the accesses of a page
 * in a second of which the sampled ones are one of HPL_PERIOD.
 */
static void show_heat(struct seq_file *m, enum hpl_evidence evidence,
		      const struct hpl_range *r, struct hpl_counts c)
{
	u64 per_s;

	if (evidence == HPL_BITS) {
		show_ratio(m, c.hit, c.seen, 1000);
		seq_puts(m, " -");
	} else if (r->exposed) {
		/* Both have HPL_SAMPLE_SHIFT binary places. */
		per_s = div_u64((u64)c.hit * HPL_PERIOD * MSEC_PER_SEC,
				r->exposed);
		seq_puts(m, " -");
		show_ratio(m, per_s, hpl_range_resident(r), 1);
	} else {
		seq_puts(m, " - -");
	}
}

static int ranges_show(struct seq_file *m, void *v)
{
	const struct hpl_cursor *cursor = v;
	const struct hpl_range *r;
	struct hpl_counts c;

	if (v == SEQ_START_TOKEN) {
		seq_puts(m, "pid start end age_epochs moves_failed looks hits exposed_ms resident_kib fast_permille accessed_permille accesses_per_page_s\n");
		return 0;
	}
	r = cursor->range;
	c = hpl_range_sum(r);
	seq_printf(m, "%d %lx %lx %u %u %u %u %u %lu", pid_vnr(cursor->hm->pid),
		   r->start, r->end, r->age, r->failures,
		   c.tried >> HPL_SAMPLE_SHIFT, c.hit >> HPL_SAMPLE_SHIFT,
		   r->exposed >> HPL_SAMPLE_SHIFT,
		   hpl_range_resident(r) << (PAGE_SHIFT - 10));
	show_ratio(m, c.fast, c.seen, 1000);
	show_heat(m, cursor->hm->tree.evidence, r, c);
	seq_putc(m, '\n');
	return 0;
}

static const struct seq_operations ranges_ops = {
	.start = ranges_start,
	.next = ranges_next,
	.stop = ranges_stop,
	.show = ranges_show,
};

static int ranges_open(struct inode *inode, struct file *file)
{
	if (!__seq_open_private(file, &ranges_ops, sizeof(struct hpl_cursor)))
		return -ENOMEM;
	/* To find an offset would take the lock for all the lines before it. */
	return nonseekable_open(inode, file);
}

static const struct file_operations ranges_fops = {
	.owner = THIS_MODULE,
	.open = ranges_open,
	.read = seq_read,
	.release = seq_release_private,
};

static int __init hpl_debugfs_init(void)
{
	struct dentry *dir = debugfs_create_dir("hplacement", NULL);

	debugfs_create_file("ranges", 0400, dir, NULL, &ranges_fops);
	return 0;
}
late_initcall(hpl_debugfs_init);
