/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: the way of samples from a CPU to the main thread
 */
#ifndef _MM_TIERING_RANGE_RING_H
#define _MM_TIERING_RANGE_RING_H

#include <linux/compiler.h>
#include <linux/types.h>

#include <asm/barrier.h>

/**
 * struct hpl_sample - an access
 * @mm: the address space; a mere number, as it may be gone
 * @addr: the address
 */
struct hpl_sample {
	unsigned long mm;
	unsigned long addr;
};

/*
 * 4096 samples of a CPU are 17 million misses at the default period: more than
 * a core has in the 100 ms after which they are taken out. 64 KiB a CPU.
 */
#define HPL_RING_SAMPLES	4096

/**
 * struct hpl_ring - samples on their way from a CPU to the main thread
 * @samples: HPL_RING_SAMPLES of them
 * @head: samples put in so far; only its CPU writes it, with interrupts off
 * @tail: samples taken out so far; only the main thread writes it
 * @nr_dropped: samples that found no room; only its CPU writes it
 */
struct hpl_ring {
	struct hpl_sample *samples;
	unsigned int head;
	unsigned int tail;
	unsigned long nr_dropped;
};

/**
 * hpl_ring_push - put in a sample
 * @ring: the ring
 * @mm: its address space
 * @addr: its address
 *
 * Counts the sample as dropped if the ring is full.
 *
 * Context: any, NMI too; the CPU of the ring, one at a time. If an NMI calls it
 * amid another call, samples of both may mix; then both are of one task, hence
 * of one address space.
 */
static inline void hpl_ring_push(struct hpl_ring *ring, unsigned long mm,
				 unsigned long addr)
{
	unsigned int head = ring->head;

	/* Pairs with the release in hpl_ring_drop(): it has read the sample. */
	if (head - smp_load_acquire(&ring->tail) >= HPL_RING_SAMPLES) {
		WRITE_ONCE(ring->nr_dropped, ring->nr_dropped + 1);
		return;
	}
	ring->samples[head % HPL_RING_SAMPLES] = (struct hpl_sample){ mm, addr };
	/* Pairs with the acquire in hpl_ring_count(): the sample is written. */
	smp_store_release(&ring->head, head + 1);
}

/**
 * hpl_ring_count - samples that can be taken out
 * @ring: the ring
 *
 * Context: the main thread.
 *
 * Return: their number.
 */
static inline unsigned int hpl_ring_count(const struct hpl_ring *ring)
{
	/* Pairs with the release in hpl_ring_push(). */
	return smp_load_acquire(&ring->head) - ring->tail;
}

/**
 * hpl_ring_peek - look at a sample
 * @ring: the ring
 * @i: how many older ones there are; less than hpl_ring_count()
 *
 * Context: the main thread.
 *
 * Return: the sample.
 */
static inline struct hpl_sample hpl_ring_peek(const struct hpl_ring *ring,
					      unsigned int i)
{
	return ring->samples[(ring->tail + i) % HPL_RING_SAMPLES];
}

/**
 * hpl_ring_drop - make room
 * @ring: the ring
 * @nr: how many to drop, the oldest; at most hpl_ring_count()
 *
 * Context: the main thread.
 */
static inline void hpl_ring_drop(struct hpl_ring *ring, unsigned int nr)
{
	/* Pairs with the acquire in hpl_ring_push(). */
	smp_store_release(&ring->tail, ring->tail + nr);
}

#endif /* _MM_TIERING_RANGE_RING_H */
