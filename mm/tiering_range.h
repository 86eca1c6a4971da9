/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: private interface of its parts
 *
 * Dependencies point one way: sysfs -> core -> {sample, policy, migrate} ->
 * tree. Tree and policy know no kernel type.
 *
 * All ranges are [start, end).
 */
#ifndef _MM_TIERING_RANGE_H
#define _MM_TIERING_RANGE_H

/*
 * Counts of samples are fixed-point numbers with 8 binary places, so that
 * decay over a fraction of a half-life loses little.
 */
#define HPL_SAMPLE_SHIFT	8
#define HPL_SAMPLE_ONE		BIT(HPL_SAMPLE_SHIFT)

/*
 * A range counts each of its quarters apart: enough to see heat in the middle,
 * which halves would not show, for 64 bytes a range.
 */
#define HPL_NR_SUBS		4

/* No split makes a smaller range: below, one sample decides too much. */
#define HPL_MIN_RANGE_PAGES	16UL

/**
 * struct hpl_counts - evidence about some pages
 * @tried: samples taken at random addresses
 * @seen: of these, found a resident page there
 * @hit: of these, found it accessed within the sampling interval
 * @fast: of the @seen, found the page on a fast node
 *
 * Unit: 1/HPL_SAMPLE_ONE samples. Invariant: hit, fast <= seen <= tried.
 */
struct hpl_counts {
	u32 tried;
	u32 seen;
	u32 hit;
	u32 fast;
};

/**
 * struct hpl_range - a range of virtual addresses whose pages are alike
 * @node: in hpl_tree.root, by address
 * @start: first byte, page aligned
 * @end: first byte after it, page aligned
 * @age: epochs since it was made by insert, split or merge, or since a move
 *	found nothing to move; saturates
 * @failures: moves in a row that found nothing to move
 * @sub: evidence about each quarter, in the order of addresses
 */
struct hpl_range {
	struct rb_node node;
	unsigned long start;
	unsigned long end;
	unsigned int age;
	unsigned int failures;
	struct hpl_counts sub[HPL_NR_SUBS];
};

/**
 * struct hpl_tree - the ranges of one address space
 * @root: ranges by address, never overlapping
 * @nr: number of ranges
 * @max: no split once @nr has reached it
 *
 * Not locked: see &struct hpl_mm for those of the core.
 */
struct hpl_tree {
	struct rb_root root;
	unsigned int nr;
	unsigned int max;
};

/**
 * struct hpl_span - addresses that a tree is to cover
 * @start: first byte, page aligned
 * @end: first byte after it, page aligned
 */
struct hpl_span {
	unsigned long start;
	unsigned long end;
};

void hpl_tree_init(struct hpl_tree *tree, unsigned int max);
void hpl_tree_destroy(struct hpl_tree *tree);
struct hpl_range *hpl_tree_first(struct hpl_tree *tree);
struct hpl_range *hpl_range_next(struct hpl_range *r);
struct hpl_range *hpl_tree_find(struct hpl_tree *tree, unsigned long addr);
int hpl_tree_sync(struct hpl_tree *tree, const struct hpl_span *spans,
		  unsigned int nr);
unsigned int hpl_spans_coalesce(struct hpl_span *spans, unsigned int nr,
				unsigned int max);
void hpl_range_count(struct hpl_range *r, unsigned long addr, bool seen,
		     bool hit, bool fast);
struct hpl_counts hpl_range_sum(const struct hpl_range *r);
void hpl_range_moved(struct hpl_range *r, unsigned long nr_pages, bool fast);
void hpl_tree_decay(struct hpl_tree *tree, unsigned int dt_ms);
unsigned int hpl_tree_split(struct hpl_tree *tree);
unsigned int hpl_tree_merge(struct hpl_tree *tree);
bool hpl_counts_differ(struct hpl_counts a, struct hpl_counts b,
		       unsigned int sigma_squared);

unsigned long hpl_range_resident(const struct hpl_range *r);
unsigned long hpl_range_fast(const struct hpl_range *r);

/**
 * struct hpl_candidate - a range as the policy sees it, and its verdict
 * @owner: index of its address space, for the caller
 * @start: first byte
 * @end: first byte after it
 * @counts: evidence about the whole range
 * @nr_slow: resident pages on slow nodes
 * @nr_fast: resident pages on fast nodes
 * @nr_promote: verdict: pages to promote
 * @nr_demote: verdict: pages to demote
 */
struct hpl_candidate {
	unsigned int owner;
	unsigned long start;
	unsigned long end;
	struct hpl_counts counts;
	unsigned long nr_slow;
	unsigned long nr_fast;
	unsigned long nr_promote;
	unsigned long nr_demote;
};

/**
 * struct hpl_costs - what the policy weighs
 * @nr_free: free pages of the fast nodes that promotion may use
 * @nr_budget: pages to promote at most
 * @interval_us: the sampling interval to which hits refer, as measured
 * @page_ns: CPU time that moving one page costs, as measured
 */
struct hpl_costs {
	unsigned long nr_free;
	unsigned long nr_budget;
	unsigned int interval_us;
	unsigned int page_ns;
};

unsigned long hpl_policy_plan(struct hpl_candidate *c, unsigned int nr,
			      const struct hpl_costs *costs);
void hpl_policy_rank_coldest(struct hpl_candidate *c, unsigned int nr);
bool hpl_policy_has_fast(const struct hpl_candidate *c);
unsigned int hpl_policy_nr_samples(unsigned int nr, u64 spent_ns,
				   u64 budget_ns);
unsigned int hpl_policy_interval(unsigned int interval_us, u64 seen, u64 hit,
				 unsigned int max_us, unsigned int page_ns);

struct folio;
struct mm_struct;
struct pid;
struct vm_area_struct;

/**
 * struct hpl_mm - a process' address space under management
 * @list: in hpl_mms
 * @mm: counted by mmgrab(); may be dead, see mmget_not_zero()
 * @pid: a process that uses @mm, for its cpuset and memory policy
 * @tree: its ranges
 * @rss: resident pages when last looked at
 * @total_vm: mm->total_vm when the tree was last synced with the VMAs
 * @map_count: mm->map_count then
 * @sync_age: epochs since then
 *
 * Only the main thread adds, removes and changes these, and holds a lock for
 * it; others may read, and keep account of moves, while it sleeps.
 */
struct hpl_mm {
	struct list_head list;
	struct mm_struct *mm;
	struct pid *pid;
	struct hpl_tree tree;
	unsigned long rss;
	unsigned long total_vm;
	int map_count;
	unsigned int sync_age;
};

/**
 * struct hpl_knobs - what the administrator sets in sysfs
 * @epoch_ms: time between two decisions
 * @overhead_permille: CPU time for sampling and classification, in 1/1000 of
 *	the time of all online CPUs
 * @migrate_mbps: MiB per second that are promoted at most
 * @max_ranges: ranges per process at most
 * @exchange: pages change places, instead of moving to free ones
 *
 * Read with READ_ONCE(): a value may change at any time.
 */
struct hpl_knobs {
	unsigned int epoch_ms;
	unsigned int overhead_permille;
	unsigned int migrate_mbps;
	unsigned int max_ranges;
	bool exchange;
};

/**
 * struct hpl_epoch - sampling in one epoch: what to do and what came out
 * @length_us: how long to take
 * @nr_samples: how many samples to take
 * @interval_us: pages accessed within this time are hits
 * @measured_us: how long that time really was on average, on return
 * @seen: resident pages sampled, on return
 * @hit: of these, found accessed, on return
 */
struct hpl_epoch {
	unsigned int length_us;
	unsigned int nr_samples;
	unsigned int interval_us;
	unsigned int measured_us;
	unsigned long seen;
	unsigned long hit;
};

/**
 * struct hpl_source - a source of samples
 * @name: as in sysfs
 * @start: get ready; 0 or an error, then the source cannot be used
 * @stop: undo @start
 * @collect: count samples into the trees of all @mms, sleeping as it likes;
 *	returns after about length_us, sooner if the thread is to stop
 */
struct hpl_source {
	const char *name;
	int (*start)(void);
	void (*stop)(void);
	void (*collect)(struct list_head *mms, struct hpl_epoch *epoch);
};

extern const struct hpl_source hpl_source_abit;

/* Samples that one epoch can take at most, whatever the budget. */
#define HPL_SAMPLES_PER_EPOCH_MAX	8192

void hpl_sleep(unsigned int us);

/**
 * struct hpl_move - pages of one range to be moved, and how it went
 * @hm: whose
 * @start: first byte
 * @end: first byte after it
 * @promote: to the fast tier, otherwise to the slow one
 * @nr_left: pages still to be moved; several nodes may take from it
 * @nr_done: pages moved
 */
struct hpl_move {
	struct hpl_mm *hm;
	unsigned long start;
	unsigned long end;
	bool promote;
	atomic_long_t nr_left;
	atomic_long_t nr_done;
};

int hpl_migrate_start(void);
void hpl_migrate_stop(void);
void hpl_migrate_cancel(void);
bool hpl_mm_managed(const struct mm_struct *mm);
bool hpl_vma_movable(struct vm_area_struct *vma);
bool hpl_folio_movable(struct folio *folio);

u64 hpl_migrate(struct hpl_move *moves, unsigned int nr);
int hpl_move_range(int nid, struct hpl_move *move);
unsigned long hpl_fast_free(void);
bool hpl_have_tiers(void);

extern struct hpl_knobs hpl_knobs;
bool hpl_enabled(void);
int hpl_enable(bool on);
int hpl_sysfs_init(void);

#endif /* _MM_TIERING_RANGE_H */
