// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: which source of samples is in use
 */
#define pr_fmt(fmt) "hplacement: " fmt

#include <linux/ktime.h>
#include <linux/printk.h>

#include "tiering_range_internal.h"
#include "tiering_range.h"

/* Until a PMU that was taken by others is tried again. */
#define HPL_RETRY_NS		(10 * NSEC_PER_SEC)

/*
 * In use; NULL while disabled or without tiers. Changed by the main thread, and
 * while that does not run.
 */
const struct hpl_source *hpl_source;

/* When to try pebs again, 0 for never. The main thread's, as above. */
static u64 retry_ns;

static int pebs_start(void)
{
	return IS_ENABLED(CONFIG_HPLACEMENT_PEBS) ? hpl_source_pebs.start() :
						    -EOPNOTSUPP;
}

static void retry_later(int err)
{
	retry_ns = err == -EBUSY ? ktime_get_ns() + HPL_RETRY_NS : 0;
}

/**
 * hpl_source_start - start the source that is asked for
 * @choice: which; with HPL_CHOICE_AUTO, the best that works
 *
 * A PMU that others have taken may be free later, see hpl_source_retry().
 *
 * Return: 0, or an error if it cannot be used.
 */
int hpl_source_start(enum hpl_choice choice)
{
	int err = choice == HPL_CHOICE_ABIT ? -ENODEV : pebs_start();

	retry_ns = 0;
	if (!err) {
		WRITE_ONCE(hpl_source, &hpl_source_pebs);
		return 0;
	}
	if (choice == HPL_CHOICE_PEBS)
		return err;
	if (choice == HPL_CHOICE_AUTO && err != -EOPNOTSUPP)
		pr_info_once("no samples by PEBS (error %d), using accessed bits\n",
			     err);
	retry_later(err);
	err = hpl_source_abit.start();
	if (!err)
		WRITE_ONCE(hpl_source, &hpl_source_abit);
	return err;
}

/**
 * hpl_source_stop - stop the source in use, if there is one
 */
void hpl_source_stop(void)
{
	if (hpl_source)
		hpl_source->stop();
	WRITE_ONCE(hpl_source, NULL);
}

/* Go on with another source, which has been started. */
static void switch_to(const struct hpl_source *to)
{
	hpl_source->stop();
	WRITE_ONCE(hpl_source, to);
}

/**
 * hpl_source_ended - the source in use has come to an end
 * @choice: what is asked for
 * @err: why
 *
 * Return: whether another one is in use now. Then what the old one found cannot
 * be compared with what the new one will.
 */
bool hpl_source_ended(enum hpl_choice choice, int err)
{
	if (choice != HPL_CHOICE_AUTO || hpl_source == &hpl_source_abit)
		return false;
	pr_info_once("no more samples by PEBS (error %d), using accessed bits\n",
		     err);
	retry_later(err);
	if (hpl_source_abit.start())
		return false;
	switch_to(&hpl_source_abit);
	return true;
}

/**
 * hpl_source_retry - return to pebs, if that is time and it works again
 *
 * Return: whether it is in use now, see hpl_source_ended().
 */
bool hpl_source_retry(void)
{
	u64 now = ktime_get_ns();

	if (!retry_ns || now < retry_ns)
		return false;
	retry_ns = now + HPL_RETRY_NS;
	if (pebs_start())
		return false;
	retry_ns = 0;
	switch_to(&hpl_source_pebs);
	return true;
}

/**
 * hpl_source_try - whether a source can be used
 * @choice: which
 *
 * Context: while none is in use.
 *
 * Return: 0, or an error if it cannot.
 */
int hpl_source_try(enum hpl_choice choice)
{
	int err = choice == HPL_CHOICE_PEBS ? pebs_start() : 0;

	if (choice == HPL_CHOICE_PEBS && !err)
		hpl_source_pebs.stop();
	return err;
}

/**
 * hpl_source_in_use - the name of the source of samples in use
 *
 * Return: a name as in sysfs, "none" while HPlacement is not at work.
 */
const char *hpl_source_in_use(void)
{
	const struct hpl_source *source = READ_ONCE(hpl_source);

	return source ? source->name : "none";
}
