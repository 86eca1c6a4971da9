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

/* Epochs of which a range knows what was new, the newest first. */
#define HPL_NR_NEWS		3

/*
 * One of so many accesses is sampled if a source counts events: about the
 * period at which others have measured 0.6% of a CPU. PEBS takes a few less, as
 * a power of 2 would beat with loops.
 */
#define HPL_PERIOD_SHIFT	12
#define HPL_PERIOD		BIT(HPL_PERIOD_SHIFT)

/*
 * Periods are at most so many binary orders longer, one in a million; or shorter,
 * while single hot pages are found, of which each has few samples.
 */
#define HPL_PERIOD_SHIFT_MAX	8
#define HPL_PERIOD_SHIFT_DENSE	(-3)

/*
 * What an access to a slow page takes longer than one to a fast page, in ns, where
 * nothing is known of it: 122 - 69 for CXL, the smallest gap among the tiers of today
 * (PMEM: 177 - 69).
 */
#define HPL_GAP_NS		53
/* More is taken for a mistake of the firmware's. */
#define HPL_GAP_NS_MAX		2000

/* No split makes a smaller range: below, one sample decides too much. */
#define HPL_MIN_RANGE_PAGES	16UL

/**
 * enum hpl_evidence - what the hits of a tree are
 * @HPL_BITS: of the resident pages looked at, those found accessed within the
 *	sampling interval: a binomial count
 * @HPL_EVENTS: sampled accesses while the range was exposed to sampling: a
 *	Poisson count
 */
enum hpl_evidence {
	HPL_BITS,
	HPL_EVENTS,
};

/**
 * struct hpl_counts - evidence about some pages
 * @tried: looks taken at random addresses
 * @seen: of these, found a resident page there
 * @hit: accesses found, see enum hpl_evidence
 * @fast: of the @seen, found the page on a fast node
 *
 * Unit: 1/HPL_SAMPLE_ONE. Invariant: fast <= seen <= tried, and hit <= seen if
 * hits are HPL_BITS.
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
 * @exposed: for HPL_EVENTS, how long accesses to it have been sampled, in
 *	1/HPL_SAMPLE_ONE ms at one of HPL_PERIOD accesses; fades as counts do
 * @fresh: of HPL_EVENTS, how many were of pages not sampled lately; fade as counts do
 * @news: of HPL_EVENTS, how many have come since hpl_tree_hasten(), before that
 *	since the call before, and so on; fade as counts do
 * @sub: evidence about each quarter, in the order of addresses
 */
struct hpl_range {
	struct rb_node node;
	unsigned long start;
	unsigned long end;
	unsigned int age;
	unsigned int failures;
	u32 exposed;
	u32 fresh;
	u32 news[HPL_NR_NEWS];
	struct hpl_counts sub[HPL_NR_SUBS];
};

/**
 * struct hpl_tree - the ranges of one address space
 * @root: ranges by address, never overlapping
 * @nr: number of ranges
 * @max: no split once @nr has reached it
 * @news_exposed: exposure of its ranges while hpl_range.news came
 * @evidence: what its hits are
 * @pid: of the process whose ranges these are, for traces
 *
 * Not locked: see &struct hpl_mm for those of the core.
 */
struct hpl_tree {
	struct rb_root root;
	unsigned int nr;
	unsigned int max;
	u32 news_exposed[HPL_NR_NEWS];
	enum hpl_evidence evidence;
	int pid;
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

/**
 * struct hpl_heat - how hot some pages are, in a form that can be compared
 * @hits: accesses found, in 1/HPL_SAMPLE_ONE
 * @looks: what they are to be held against: for HPL_BITS, the resident pages
 *	looked at; for HPL_EVENTS, a number of pages times their exposure
 */
struct hpl_heat {
	u64 hits;
	u64 looks;
};

void hpl_tree_init(struct hpl_tree *tree, unsigned int max,
		   enum hpl_evidence evidence);
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
void hpl_range_event(struct hpl_range *r, unsigned long addr, bool fresh);
struct hpl_counts hpl_range_sum(const struct hpl_range *r);
void hpl_range_moved(struct hpl_range *r, unsigned long nr_pages, bool fast);
void hpl_tree_expose(struct hpl_tree *tree, u32 exposed);
void hpl_tree_hasten(struct hpl_tree *tree);
void hpl_tree_decay(struct hpl_tree *tree, unsigned int dt_ms);
unsigned int hpl_tree_split(struct hpl_tree *tree);
unsigned int hpl_tree_merge(struct hpl_tree *tree);
u64 hpl_heat_z_squared(enum hpl_evidence evidence, struct hpl_heat a,
		       struct hpl_heat b, unsigned int least);
bool hpl_heat_differs(enum hpl_evidence evidence, struct hpl_heat a,
		      struct hpl_heat b, unsigned int sigma_squared);

unsigned long hpl_range_resident(const struct hpl_range *r);
unsigned long hpl_range_fast(const struct hpl_range *r);

/*
 * The table of samples by page is gone through in that time, and a sample forgotten
 * after eight times as long, on average: then pages that deserve a place on the fast
 * tier have some samples at the default period, and others next to none.
 */
#define HPL_SPOT_PASS_MS	750

/* Address spaces whose pages are told apart. */
#define HPL_OWNERS		4096U

/*
 * Numbers of samples told apart, of which the last stands for more as well; the most of
 * which it can be told how hot pages are; and one that no page has.
 */
#define HPL_SPOT_COUNTS		8
#define HPL_SPOT_JUDGED		(HPL_SPOT_COUNTS - 3U)
#define HPL_SPOT_NEVER		UINT_MAX

/* What hpl_sketch_count() says of a page. */
#define HPL_SPOT_FRESH		BIT(0)
#define HPL_SPOT_HOT		BIT(1)

/**
 * enum hpl_spot_state - what has been tried with a page that was sampled lately
 * @HPL_SPOT_NEW: nothing
 * @HPL_SPOT_TRIED: it is fast, or cannot become so
 * @HPL_SPOT_PROMOTED: it has been promoted alone since the last pass
 * @HPL_SPOT_PROMOTED_BEFORE: since the one before that
 */
enum hpl_spot_state {
	HPL_SPOT_NEW,
	HPL_SPOT_TRIED,
	HPL_SPOT_PROMOTED,
	HPL_SPOT_PROMOTED_BEFORE,
};

/**
 * struct hpl_spot - a page to be moved alone
 * @addr: its address
 * @owner: whose, see struct hpl_mm
 */
struct hpl_spot {
	unsigned long addr;
	unsigned int owner;
};

/* Of 16 bytes. */
#define HPL_BUCKET_SPOTS	8

/**
 * union hpl_bucket - a part of the table of pages sampled lately
 * @spots: the pages that are there, see mm/tiering_range_sketch.c
 * @words: all of them at once
 */
union hpl_bucket {
	u16 spots[HPL_BUCKET_SPOTS];
	u64 words[HPL_BUCKET_SPOTS / 4];
};

/**
 * struct hpl_sketch - counts of samples by page
 * @buckets: the table
 * @nr: number of @buckets
 * @cursor: next one to be passed
 * @found: pages passed that have 0, 1, ... samples
 * @nr_lost: pages that gave way to others in this pass, for want of room
 * @random: state of a random number generator
 * @keep: samples that are not forgotten, of those next in turn
 * @nr_tried: counts pages passed that have been tried
 * @least: as many samples make a page hot
 * @heat: how hot pages with @least samples are, as the policy has it
 * @raised: how much @least is above what counts say, as promoted pages were not hot
 * @hold: passes until @raised is lowered
 * @patience: the next @hold
 * @settling: passes until no page is on probation that was promoted before @raised
 * @nr_promoted: spots on probation: promoted in this pass or the one before
 * @promoted_hits: samples of these since then; fade as samples do
 * @promoted_exposed: exposure of these, all together; fades as samples do
 * @exposed: how long accesses have been sampled, see struct hpl_range; fades as
 *	samples do
 *
 * Not locked: see &struct hpl_mm for those of the core.
 */
struct hpl_sketch {
	union hpl_bucket *buckets;
	unsigned long nr;
	unsigned long cursor;
	unsigned long found[HPL_SPOT_COUNTS];
	unsigned long nr_lost;
	u64 random;
	unsigned int keep;
	unsigned int nr_tried;
	unsigned int least;
	u64 heat;
	unsigned int raised;
	unsigned int hold;
	unsigned int patience;
	unsigned int settling;
	unsigned long nr_promoted;
	u64 promoted_hits;
	u64 promoted_exposed;
	u32 exposed;
};

int hpl_sketch_init(struct hpl_sketch *sk, unsigned long nr_pages);
void hpl_sketch_destroy(struct hpl_sketch *sk);
unsigned int hpl_sketch_count(struct hpl_sketch *sk, unsigned int owner,
			      unsigned long addr);
bool hpl_sketch_seen(const struct hpl_sketch *sk, unsigned int owner,
		     unsigned long addr);
bool hpl_sketch_mark(struct hpl_sketch *sk, unsigned int owner,
		     unsigned long addr, enum hpl_spot_state from,
		     enum hpl_spot_state to);
void hpl_sketch_expose(struct hpl_sketch *sk, u32 exposed);
bool hpl_sketch_pass(struct hpl_sketch *sk, unsigned long nr);
void hpl_sketch_begin(struct hpl_sketch *sk);
struct hpl_heat hpl_sketch_heat(const struct hpl_sketch *sk, unsigned int k);
struct hpl_heat hpl_sketch_heat_promoted(const struct hpl_sketch *sk);

/**
 * struct hpl_candidate - a range as the policy sees it, and its verdict
 * @owner: index of its address space, for the caller
 * @start: first byte
 * @end: first byte after it
 * @counts: evidence about the whole range
 * @exposed: as in struct hpl_range
 * @fresh: as in struct hpl_range
 * @heat: how the policy ranks it
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
	u32 exposed;
	u32 fresh;
	u64 heat;
	unsigned long nr_slow;
	unsigned long nr_fast;
	unsigned long nr_promote;
	unsigned long nr_demote;
};

/**
 * struct hpl_costs - what the policy weighs
 * @nr_free: free pages of the fast nodes that promotion may use
 * @nr_short: pages that must become free before it may use any
 * @nr_wanted: of these, pages that are to become free in any case
 * @nr_unpaired: pages of the last plan that could not change places with others
 * @nr_budget: pages to promote at most
 * @evidence: what the hits are
 * @interval_us: for HPL_BITS, the sampling interval, as measured
 * @page_ns: CPU time that moving one page costs, as measured
 * @gap_ns: what an access to a slow page takes longer than one to a fast page
 */
struct hpl_costs {
	unsigned long nr_free;
	unsigned long nr_short;
	unsigned long nr_wanted;
	unsigned long nr_unpaired;
	unsigned long nr_budget;
	enum hpl_evidence evidence;
	unsigned int interval_us;
	unsigned int page_ns;
	unsigned int gap_ns;
};

bool hpl_policy_ready(const struct hpl_range *r);
void hpl_policy_candidate(struct hpl_candidate *c, const struct hpl_range *r,
			  unsigned int owner);
unsigned long hpl_policy_plan(struct hpl_candidate *c, unsigned int nr,
			      struct hpl_candidate *alone,
			      const struct hpl_costs *costs);
void hpl_policy_judge(struct hpl_sketch *sk, const struct hpl_candidate *c,
		      unsigned int nr, const struct hpl_costs *costs);
void hpl_policy_rank_coldest(struct hpl_candidate *c, unsigned int nr);
bool hpl_policy_has_fast(const struct hpl_candidate *c);
unsigned int hpl_policy_nr_samples(unsigned int nr, u64 spent_ns,
				   u64 budget_ns);
unsigned int hpl_policy_interval(unsigned int interval_us, u64 seen, u64 hit,
				 unsigned int max_us, unsigned int page_ns);
int hpl_policy_period(int shift, int least, u64 record_ns, u64 spent_ns,
		      u64 budget_ns);

struct folio;
struct mm_struct;
struct pid;
struct vm_area_struct;

/**
 * struct hpl_mm - a process' address space under management
 * @list: in hpl_mms
 * @mm: counted by mmgrab(); may be dead, see hpl_mm_trylock()
 * @owner: a number that stands for it, HPL_OWNERS if there are too many
 * @pid: a process that uses @mm, for its cpuset and memory policy
 * @tree: its ranges
 * @rss: resident pages when last looked at
 * @total_vm: mm->total_vm when the tree was last synced with the VMAs
 * @map_count: mm->map_count then
 * @sync_age: epochs since then
 * @fresh: samples that are under way may be of another mm: of one that a task
 *	had before it executed a program, or that lay at the same address
 *
 * Only the main thread adds, removes and changes these, and holds a lock for
 * it; others may read, and keep account of moves, while it sleeps.
 */
struct hpl_mm {
	struct list_head list;
	struct mm_struct *mm;
	u32 owner;
	struct pid *pid;
	struct hpl_tree tree;
	unsigned long rss;
	unsigned long total_vm;
	int map_count;
	unsigned int sync_age;
	bool fresh;
};

/**
 * struct hpl_knobs - what the administrator sets in sysfs
 * @epoch_ms: time between two decisions
 * @overhead_permille: CPU time for sampling and classification, in 1/1000 of
 *	the time of all online CPUs
 * @migrate_mbps: MiB per second that are promoted at most
 * @headroom_permille: share of fast memory that is kept free
 * @max_ranges: ranges per process at most
 * @exchange: pages change places, instead of moving to free ones
 *
 * Read with READ_ONCE(): a value may change at any time.
 */
struct hpl_knobs {
	unsigned int epoch_ms;
	unsigned int overhead_permille;
	unsigned int migrate_mbps;
	unsigned int headroom_permille;
	unsigned int max_ranges;
	bool exchange;
};

/**
 * struct hpl_epoch - sampling in one epoch: what to do and what came out
 * @length_us: how long to take
 * @page_ns: CPU time that moving one page costs
 * @nr_samples: samples taken, on return
 * @interval_us: for HPL_BITS, the sampling interval asked for, on return
 * @measured_us: how long that really was on average, on return
 * @period: for HPL_EVENTS, one of how many accesses was sampled, on return
 * @seen: resident pages looked at, on return
 * @hit: for HPL_BITS, of these found accessed, on return
 * @spent_ns: CPU time that sampling took from others than the main thread, on
 *	return
 * @record_ns: for HPL_EVENTS, that and the main thread's for taking samples in,
 *	on return
 */
struct hpl_epoch {
	unsigned int length_us;
	unsigned int page_ns;
	unsigned int nr_samples;
	unsigned int interval_us;
	unsigned int measured_us;
	unsigned int period;
	unsigned long seen;
	unsigned long hit;
	u64 spent_ns;
	u64 record_ns;
};

/**
 * struct hpl_source - a source of samples
 * @name: as in sysfs
 * @evidence: what its hits are
 * @start: get ready; 0 or an error, then the source cannot be used
 * @stop: undo @start
 * @collect: count samples into the trees of all @mms, sleeping as it likes;
 *	returns after about length_us, sooner if the thread is to stop. 0, or an
 *	error if there are no more samples: -EBUSY if there may be again
 * @adapt: make sampling cheaper or denser after an epoch in which tracking took
 *	@spent_ns, of @budget_ns
 * @pause: stop what costs while nobody collects, or go on; NULL if nothing does
 *
 * All are called by one thread at a time.
 */
struct hpl_source {
	const char *name;
	enum hpl_evidence evidence;
	int (*start)(void);
	void (*stop)(void);
	int (*collect)(struct list_head *mms, struct hpl_epoch *epoch);
	void (*adapt)(const struct hpl_epoch *epoch, u64 spent_ns,
		      u64 budget_ns);
	void (*pause)(bool pause);
};

extern const struct hpl_source hpl_source_abit;
extern const struct hpl_source hpl_source_pebs;
extern const struct hpl_source *hpl_source;

/* Samples that one epoch of abit can take at most, whatever the budget. */
#define HPL_SAMPLES_PER_EPOCH_MAX	8192

int hpl_looks_start(void);
void hpl_looks_stop(void);
void hpl_look(struct list_head *mms, struct hpl_epoch *epoch);
bool hpl_page_is_slow(struct hpl_mm *hm, unsigned long addr);
struct hpl_mm *hpl_mm_find(unsigned long mm);
struct hpl_mm *hpl_mm_of(unsigned int owner);

void hpl_sleep(unsigned int us);

/**
 * struct hpl_move - pages of one range to be moved, and how it went
 * @hm: whose
 * @start: first byte
 * @end: first byte after it
 * @promote: to the fast tier, otherwise to the slow one
 * @all: also pages that have been sampled lately; otherwise, those are not
 *	demoted
 * @spots: if not NULL, only these pages of the range, by address
 * @nr_spots: number of @spots
 * @nr_left: pages still to be moved; several nodes may take from it
 * @nr_done: pages moved
 */
struct hpl_move {
	struct hpl_mm *hm;
	unsigned long start;
	unsigned long end;
	bool promote;
	bool all;
	const struct hpl_spot *spots;
	unsigned int nr_spots;
	atomic_long_t nr_left;
	atomic_long_t nr_done;
};

int hpl_migrate_start(void);
unsigned long hpl_migrate_unpaired(void);
void hpl_migrate_stop(void);
void hpl_migrate_cancel(void);
bool hpl_mm_managed(const struct mm_struct *mm);
bool hpl_memcg_managed(const struct mm_struct *mm);
bool hpl_mm_trylock(struct mm_struct *mm);
bool hpl_vma_movable(struct vm_area_struct *vma);
bool hpl_folio_movable(struct folio *folio);

/**
 * struct hpl_plan - what is to be moved in an epoch
 * @moves: @nr_moves of them
 * @nr_moves: may be 0 for want of memory
 * @nr_promote: pages to promote, were there enough memory
 */
struct hpl_plan {
	struct hpl_move *moves;
	unsigned int nr_moves;
	unsigned long nr_promote;
};

/* Of all processes; the main thread's, and read by others while it waits. */
extern struct hpl_sketch hpl_sketch;
bool hpl_spots_rich(void);

int hpl_plan_start(void);
void hpl_plan_stop(void);
void hpl_plan_spot(unsigned int owner, unsigned long addr);
unsigned int hpl_page_ns(void);
void hpl_plan(struct hpl_plan *plan, struct list_head *mms, unsigned int nr,
	      const struct hpl_epoch *e, enum hpl_evidence evidence, bool quiet);
void hpl_plan_carry_out(struct hpl_plan *plan, unsigned long *nr_promoted,
			unsigned long *nr_demoted);
unsigned long hpl_plan_demote(struct list_head *mms, int nid,
			      unsigned long nr_pages);

u64 hpl_migrate(struct hpl_move *moves, unsigned int nr);
int hpl_move_range(int nid, struct hpl_move *move);

unsigned long hpl_node_spare(int nid);
unsigned long hpl_node_short(int nid);
unsigned long hpl_fast_free(void);
unsigned long hpl_fast_short(void);
bool hpl_have_tiers(void);
void hpl_read_gap(void);
unsigned int hpl_gap_ns(void);

/**
 * enum hpl_choice - which source of samples is asked for
 * @HPL_CHOICE_AUTO: pebs where it works, otherwise abit
 * @HPL_CHOICE_PEBS: pebs
 * @HPL_CHOICE_ABIT: abit
 */
enum hpl_choice {
	HPL_CHOICE_AUTO,
	HPL_CHOICE_PEBS,
	HPL_CHOICE_ABIT,
};

extern struct hpl_knobs hpl_knobs;
extern struct mutex hpl_mms_lock;
extern struct xarray hpl_mm_index;
bool hpl_enabled(void);
int hpl_enable(bool on);
enum hpl_choice hpl_source_choice(void);
int hpl_source_choose(enum hpl_choice choice);
int hpl_source_start(enum hpl_choice choice);
void hpl_source_stop(void);
bool hpl_source_ended(enum hpl_choice choice, int err);
bool hpl_source_retry(void);
int hpl_source_try(enum hpl_choice choice);
const char *hpl_source_in_use(void);
int hpl_sysfs_init(void);

#endif /* _MM_TIERING_RANGE_H */
