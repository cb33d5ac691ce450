/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every difference between the supported kernels, decided by the presence of
 * an API (generated/kernel_api.h), never by a version number.
 */
#ifndef _CROSSTALK_COMPAT_H
#define _CROSSTALK_COMPAT_H

#include <linux/eventfd.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/mm_types.h>

#include <generated/kernel_api.h>

/* page_frag_cache_drain() came with vhost-net's use of page_frag_cache. */
#ifdef HAVE_PAGE_FRAG_CACHE_DRAIN
#define crosstalk_page_frag_drain(nc) page_frag_cache_drain(nc)
#else
static inline void crosstalk_page_frag_drain(struct page_frag_cache *nc)
{
	if (!nc->va)
		return;

	__page_frag_cache_drain(virt_to_head_page(nc->va), nc->pagecnt_bias);
	nc->va = NULL;
}
#endif

/* eventfd_signal() lost its count when it stopped being a function of its own. */
#ifdef HAVE_EVENTFD_SIGNAL_COUNT
#define crosstalk_eventfd_signal(ctx) ((void)eventfd_signal(ctx, 1))
#else
#define crosstalk_eventfd_signal(ctx) eventfd_signal(ctx)
#endif

/* Code that a kernel without kretprobes (User Mode Linux) must do without. */
#ifdef CONFIG_KRETPROBES
#define CROSSTALK_HAVE_KRETPROBES 1
#else
#define CROSSTALK_HAVE_KRETPROBES 0
#endif

/* Inner functions that the KUnit module calls. */
#if IS_ENABLED(CONFIG_KUNIT)
#define EXPORT_SYMBOL_FOR_CROSSTALK_TEST(sym) \
	EXPORT_SYMBOL_NS_GPL(sym, VHOST_CROSSTALK_TEST)
#else
#define EXPORT_SYMBOL_FOR_CROSSTALK_TEST(sym) \
	static_assert(!__builtin_types_compatible_p(typeof(sym), void))
#endif

#endif /* _CROSSTALK_COMPAT_H */
