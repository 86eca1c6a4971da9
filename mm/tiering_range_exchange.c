// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: pages of two tiers change places
 *
 * A hot page of a slow node and a cold one of a fast node swap their contents,
 * and then their mappings: no third page is needed, none is allocated, charged or
 * freed. Both are locked, off the LRU lists, unmapped and frozen meanwhile, so
 * nobody can find them halfway; if either of them cannot be brought there, both
 * are mapped again where they were.
 *
 * Base pages only: remove_migration_ptes() finds the parts of a large folio by the
 * index of the one that was mapped, which has been swapped.
 *
 * Only the main thread does this.
 */
#include <linux/memcontrol.h>
#include <linux/memory-tiers.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/nodemask.h>
#include <linux/page_ref.h>
#include <linux/pagemap.h>
#include <linux/pid.h>
#include <linux/rmap.h>
#include <linux/vmstat.h>

#include <trace/events/tiering_range.h>

#include "internal.h"
#include "tiering_range_internal.h"
#include "tiering_range.h"
#include "tiering_range_migrate.h"

/*
 * Pairs at a time: they share a TLB flush, and the first must wait for the last
 * to be copied, some 16 us each, before it can be accessed.
 */
#define HPL_BATCH_PAIRS	64

/* Flags of a folio that go with its contents; those of the place stay. */
#define HPL_CONTENT_FLAGS						\
	(BIT(PG_referenced) | BIT(PG_uptodate) | BIT(PG_dirty) |	\
	 BIT(PG_active) | BIT(PG_workingset) | HPL_IDLE_FLAGS)

#ifdef CONFIG_PAGE_IDLE_FLAG
#define HPL_IDLE_FLAGS	(BIT(PG_young) | BIT(PG_idle))
#else
#define HPL_IDLE_FLAGS	0
#endif

/**
 * struct hpl_pair - two folios that change places
 * @folio: the hot one and the cold one
 * @anon_vma: how to find where they were mapped
 * @unmapped: both are locked and unmapped
 */
struct hpl_pair {
	struct folio *folio[2];
	struct anon_vma *anon_vma[2];
	bool unmapped;
};

/**
 * struct hpl_side - where the folios of one direction come from
 * @batch: what is isolated, of @move
 * @move: the one in progress, NULL for none
 * @next: the one to look at after it
 * @end: past the last one
 * @at: where to go on in @move
 * @unseen: bytes of @move that have not been looked at
 */
struct hpl_side {
	struct hpl_batch batch;
	struct hpl_move *move;
	struct hpl_move *next;
	struct hpl_move *end;
	unsigned long at;
	unsigned long unseen;
};

static struct hpl_pair pairs[HPL_BATCH_PAIRS];

/* Begin with the next move of this direction; false if there is none. */
static bool side_advance(struct hpl_side *s)
{
	while (s->next < s->end) {
		struct hpl_move *m = s->next++;

		if (m->promote != s->batch.promote ||
		    atomic_long_read(&m->nr_left) <= 0)
			continue;
		s->move = m;
		s->at = hpl_random_page(m->start, m->end);
		s->unseen = m->end - m->start;
		hpl_read_law(&s->batch, m->hm);
		return true;
	}
	return false;
}

/* Have some folios isolated; false if there are no more. */
static bool side_fill(struct hpl_side *s)
{
	struct hpl_batch *b = &s->batch;

	while (!b->nr) {
		long left = s->move ? atomic_long_read(&s->move->nr_left) : 0;

		if (hpl_cancelled())
			return false;
		if (left <= 0 || !s->unseen) {
			if (!side_advance(s))
				return false;
			continue;
		}
		b->max = min(left, (long)HPL_BATCH_PAIRS);
		hpl_isolate(b, s->move, s->at,
			    min(s->move->end, s->at + s->unseen));
		s->unseen -= b->next - s->at;
		s->at = b->next == s->move->end ? s->move->start : b->next;
		cond_resched();
	}
	return true;
}

static void side_put_back(struct hpl_side *s)
{
	putback_movable_pages(&s->batch.folios);
	s->batch.nr = 0;
}

/* A folio of the group of @hot: so nothing needs to be charged. */
static struct folio *partner(struct folio *hot, struct list_head *cold)
{
	struct folio *folio;

	list_for_each_entry(folio, cold, lru)
		if (folio_memcg(folio) == folio_memcg(hot))
			return folio;
	return NULL;
}

/* Take pairs out of both batches; returns how many. */
static unsigned int pair_up(struct hpl_batch *up, struct hpl_batch *down)
{
	struct folio *hot, *next, *cold;
	unsigned int n = 0;

	list_for_each_entry_safe(hot, next, &up->folios, lru) {
		cold = partner(hot, &down->folios);
		if (!cold || n == HPL_BATCH_PAIRS)
			continue;
		list_del(&hot->lru);
		list_del(&cold->lru);
		up->nr--;
		down->nr--;
		pairs[n++] = (struct hpl_pair){ .folio = { hot, cold } };
	}
	return n;
}

/* What may have changed before the folio was locked. */
static bool exchangeable(struct folio *folio)
{
	return folio_test_anon(folio) && !folio_test_large(folio) &&
	       hpl_folio_movable(folio) && !folio_test_swapcache(folio) &&
	       !folio_test_writeback(folio) && !folio_test_private(folio) &&
	       !folio_test_hwpoison(folio);
}

/* Unmap a folio, which is locked; its anon_vma, or NULL if it is still mapped. */
static struct anon_vma *unmap(struct folio *folio)
{
	struct anon_vma *anon_vma;

	/* Without mappings, the folio would not keep it. */
	anon_vma = exchangeable(folio) ? folio_get_anon_vma(folio) : NULL;
	if (!anon_vma)
		return NULL;
	try_to_migrate(folio, TTU_BATCH_FLUSH);
	if (!folio_mapped(folio))
		return anon_vma;
	/* Pinned, or mapped where it was not found. */
	remove_migration_ptes(folio, folio, 0);
	put_anon_vma(anon_vma);
	return NULL;
}

static void unmap_pair(struct hpl_pair *p)
{
	if (!folio_trylock(p->folio[0]))
		return;
	if (!folio_trylock(p->folio[1]))
		goto unlock;
	p->anon_vma[0] = unmap(p->folio[0]);
	if (!p->anon_vma[0])
		goto unlock_both;
	p->anon_vma[1] = unmap(p->folio[1]);
	if (p->anon_vma[1]) {
		p->unmapped = true;
		return;
	}
	remove_migration_ptes(p->folio[0], p->folio[0], 0);
	put_anon_vma(p->anon_vma[0]);
unlock_both:
	folio_unlock(p->folio[1]);
unlock:
	folio_unlock(p->folio[0]);
}

/* Through registers, four words at a time: two thirds of three copies' instructions. */
static void swap_contents(struct folio *a, struct folio *b)
{
	u64 *va = kmap_local_folio(a, 0), *vb = kmap_local_folio(b, 0);
	unsigned int i;

	for (i = 0; i < PAGE_SIZE / sizeof(*va); i += 4) {
		swap(va[i], vb[i]);
		swap(va[i + 1], vb[i + 1]);
		swap(va[i + 2], vb[i + 2]);
		swap(va[i + 3], vb[i + 3]);
	}
	kunmap_local(vb);
	kunmap_local(va);
}

static void swap_identities(struct folio *a, struct folio *b)
{
	unsigned long differ = (a->flags ^ b->flags) & HPL_CONTENT_FLAGS;
	unsigned int bit;

	for_each_set_bit(bit, &differ, BITS_PER_LONG) {
		change_bit(bit, &a->flags);
		change_bit(bit, &b->flags);
	}
	swap(a->mapping, b->mapping);
	swap(a->index, b->index);
	/* Who accessed them last, or when, is of no use on another tier. */
	folio_xchg_last_cpupid(a, -1);
	folio_xchg_last_cpupid(b, -1);
}

/*
 * Frozen, nobody who finds a folio by its number can get hold of it. The only
 * reference is ours, by isolation, or somebody may be reading or writing.
 */
static bool swap_pair(struct folio *a, struct folio *b)
{
	if (!folio_ref_freeze(a, 1))
		return false;
	if (!folio_ref_freeze(b, 1)) {
		folio_ref_unfreeze(a, 1);
		return false;
	}
	swap_contents(a, b);
	swap_identities(a, b);
	folio_ref_unfreeze(b, 1);
	folio_ref_unfreeze(a, 1);
	return true;
}

/* Once TLBs are flushed; returns whether the pages have changed places. */
static bool finish_pair(struct hpl_pair *p)
{
	struct folio *a = p->folio[0], *b = p->folio[1];
	bool done = swap_pair(a, b);

	/* The mappings that were of the one lead to the other, or back. */
	remove_migration_ptes(a, done ? b : a, 0);
	remove_migration_ptes(b, done ? a : b, 0);
	folio_unlock(a);
	folio_unlock(b);
	put_anon_vma(p->anon_vma[0]);
	put_anon_vma(p->anon_vma[1]);
	return done;
}

static void account(struct hpl_side *s, long tried, long done, long pinned)
{
	struct hpl_batch *b = &s->batch;
	struct hpl_move *m = s->move;

	hpl_count_events(b, HPL_PROMOTE_TRIED_ANON, tried);
	hpl_count_events(b, HPL_PROMOTE_DONE_ANON, done);
	hpl_count_events(b, HPL_PROMOTE_FAILED_PINNED, pinned);
	hpl_count_events(b, HPL_PROMOTE_FAILED_BUSY, tried - done - pinned);
	trace_hpl_move(pid_nr(m->hm->pid), m->start, m->end, b->nid, b->target,
		       tried, done);
	atomic_long_add(done, &m->nr_done);
	atomic_long_sub(done, &m->nr_left);
}

/* Exchange what has been isolated, as far as it makes pairs. */
static void exchange_batch(struct hpl_side *up, struct hpl_side *down)
{
	unsigned int i, j, n = pair_up(&up->batch, &down->batch);
	long done = 0, pinned[2] = {};
	LIST_HEAD(back);

	if (!n) {
		/* Of different groups: try others. */
		up->batch.nr_unfit += up->batch.nr;
		side_put_back(up);
		side_put_back(down);
		return;
	}
	for (i = 0; i < n; i++)
		unmap_pair(&pairs[i]);
	try_to_unmap_flush();
	for (i = 0; i < n; i++) {
		bool moved = pairs[i].unmapped && finish_pair(&pairs[i]);

		done += moved;
		for (j = 0; j < 2; j++) {
			if (!moved && folio_maybe_dma_pinned(pairs[i].folio[j]))
				pinned[j]++;
			list_add_tail(&pairs[i].folio[j]->lru, &back);
		}
		cond_resched();
	}
	count_vm_events(HPL_EXCHANGED, done);
	account(up, n, done, pinned[0]);
	account(down, n, done, pinned[1]);
	putback_movable_pages(&back);
}

static struct hpl_side side(struct hpl_move *moves, unsigned int nr, int nid,
			    int target, bool promote)
{
	return (struct hpl_side){
		.batch = {
			.nid = nid,
			.target = target,
			.promote = promote,
			.exchange = true,
		},
		.next = moves,
		.end = moves + nr,
	};
}

/* Returns how many pages were found that are to be promoted otherwise. */
static unsigned int exchange_nodes(struct hpl_move *moves, unsigned int nr,
				   int slow, int fast)
{
	struct hpl_side up = side(moves, nr, slow, fast, true);
	struct hpl_side down = side(moves, nr, fast, slow, false);

	INIT_LIST_HEAD(&up.batch.folios);
	INIT_LIST_HEAD(&down.batch.folios);
	while (side_fill(&up) && side_fill(&down))
		exchange_batch(&up, &down);
	side_put_back(&up);
	side_put_back(&down);
	return up.batch.nr_unfit;
}

/**
 * hpl_exchange - carry out what of a plan can be done by exchanging pages
 * @moves: what to move; how it went is filled in, and what is left to move
 * @nr: number of @moves
 *
 * Anonymous base pages only, and of pairs of one memory group. Context: the main
 * thread; sleeps.
 *
 * Return: how many pages were found that are to be promoted otherwise.
 */
unsigned long hpl_exchange(struct hpl_move *moves, unsigned int nr)
{
	unsigned long unfit = 0;
	int slow, fast;

	/* Tags of memory would have to change places, too. */
	if (IS_ENABLED(CONFIG_ARM64_MTE))
		return ULONG_MAX;
	lru_add_drain();
	for_each_node_state(slow, N_MEMORY)
		for_each_node_state(fast, N_MEMORY)
			if (node_is_toptier(fast) && !node_is_toptier(slow))
				unfit += exchange_nodes(moves, nr, slow, fast);
	return unfit;
}
