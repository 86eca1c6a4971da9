/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: simulated machines, see sim.c
 */
#ifndef _TIERING_RANGE_SIM_H
#define _TIERING_RANGE_SIM_H

#include "test.h"

#define EPOCH_MS	100
#define MAX_PROCS	2
/* As mm/tiering_range_plan.c has it. */
#define MAX_SPOTS	256

/**
 * struct proc - a simulated process
 * @base: its first address
 * @nr_blocks: its memory
 * @rate: accesses per second to each page of a block
 * @fast: whether a block is on the fast tier
 * @hot: whether a block belongs to what is to be found
 * @sum: accesses per second to all blocks before this one
 * @tree: its ranges
 */
struct proc {
	unsigned long base;
	unsigned long nr_blocks;
	float *rate;
	bool *fast;
	bool *hot;
	double *sum;
	struct hpl_tree tree;
};

/**
 * struct finder - how heat is found in a simulated machine
 * @sample: take the samples of an epoch of a process; accessed bits looked at, and
 *	those found set, are added to @seen and @hit
 * @candidates: fill in what the policy is to see, of all processes; how many
 * @account: @done of the @pages of a candidate that were to be moved have been
 */
struct finder {
	void (*sample)(struct proc *p, u64 *seen, u64 *hit);
	unsigned int (*candidates)(struct hpl_candidate *c);
	void (*account)(const struct hpl_candidate *c, unsigned long done,
			unsigned long pages, bool promote);
};

/**
 * struct world - a simulated machine
 * @procs: its processes
 * @nr_procs: number of @procs
 * @block_pages: pages in a block
 * @capacity: blocks of the fast tier
 * @used: of these, in use
 * @budget: pages that an epoch may promote
 * @interval_us: the sampling interval
 * @shift: the sampling period, in binary orders above HPL_PERIOD
 * @dense: below HPL_PERIOD, before that
 * @stale: rates have changed since sums were made
 * @nr_promoted: blocks promoted so far
 * @nr_promoted_hot: of these, hot ones
 * @nr_demoted: blocks demoted so far
 * @max_ranges: most ranges that a tree has had
 * @finder: how heat is found
 * @classify_ns: what adapting trees and planning took in the last epoch
 * @alone: pages are told apart by @sketch; blocks are of one page, by counted events
 * @sketch: the table of single pages
 * @spots: pages sampled in the last epoch that may be hot alone
 * @nr_spots: number of @spots
 * @nr_alone: pages promoted alone so far
 */
struct world {
	struct proc procs[MAX_PROCS];
	unsigned int nr_procs;
	unsigned long block_pages;
	unsigned long capacity;
	unsigned long used;
	unsigned long budget;
	unsigned int interval_us;
	unsigned int shift;
	unsigned int dense;
	bool stale;
	unsigned long nr_promoted;
	unsigned long nr_promoted_hot;
	unsigned long nr_demoted;
	unsigned int max_ranges;
	const struct finder *finder;
	u64 classify_ns;
	bool alone;
	struct hpl_sketch sketch;
	struct hpl_spot spots[MAX_SPOTS];
	unsigned int nr_spots;
	unsigned long nr_alone;
};

extern struct world w;
extern enum hpl_evidence evidence;

void world_init(unsigned long bytes);
void world_exit(void);
void proc_add(unsigned long nr_blocks, float rate);
void heat_up(struct proc *p, unsigned int from, unsigned int to, float rate);
void cool_down(struct proc *p, float rate);
unsigned long block_of(const struct proc *p, unsigned long addr);
u64 draw_events(struct proc *p);
unsigned long draw_address(const struct proc *p);
double recall(void);
double moved(void);
double precision(void);
unsigned int epochs_until(double goal, unsigned int max);
void run(unsigned int epochs);

#endif /* _TIERING_RANGE_SIM_H */
