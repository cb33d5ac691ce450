// SPDX-License-Identifier: GPL-2.0
/*
 * TX rings that no sane guest has.  Each of them is given to plain vhost-net
 * and to the module, and both must do exactly the same: complete the same
 * chains, let the same frames pass, report the same errors.  Afterwards the
 * device must work again, as after a reset by the guest.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ctl.h"
#include "hostile.h"
#include "ktap.h"
#include "vpeer.h"

#define ATTACKER	0
#define SINK		1

struct outcome {
	u16 used, base;		/* completed; consumed */
	u64 ids;		/* hash of the completed chains */
	bool error;		/* the device signalled one */
	unsigned int good;	/* right frames that arrived */
	unsigned int odd;	/* others, and ... */
	u64 odd_bytes;		/* ... their bytes */
};

static struct vp_peer attacker, sink;
static struct outcome now;
static struct hostile hostile = {
	.p = &attacker, .r = &attacker.qp[0].tx, .dst = SINK,
};

static struct vp_ring *tx(void)
{
	return hostile.r;
}

static void good(u16 i)
{
	hostile_good(&hostile, i);
}

static void publish(void)
{
	hostile_publish(&hostile);
}

/* ---- one attack, and what comes of it ---- */

static void on_frame(struct vp_peer *p, unsigned int q, const u8 *f, u32 len,
		     const struct virtio_net_hdr_v1 *h, void *arg)
{
	struct vp_frame fr;
	char why[160];

	(void)p;
	(void)q;
	(void)arg;
	if (memcmp(f, sink.mac, 6))
		return;		/* not the attacker's: the host's chatter */
	if (vp_frame_check(f, len, h, true, SINK, &fr, why, sizeof(why)) ==
	    VP_FRAME_OK) {
		now.good++;
	} else {
		now.odd++;
		now.odd_bytes += len;
	}
}

static bool take(void)
{
	bool any = vp_rx(&sink, 0, 64, on_frame, NULL);

	vp_ring_kick_anyway(&sink.qp[0].rx);
	return any;
}

/*
 * Until everything has happened that will.  A kick queues its work at once,
 * and SET_MEM_TABLE waits for the work that is queued.  A frame that comes back
 * to the direct path rests until a timer ends that, late perhaps: a kick after
 * that time does the same.
 */
static void settle(void)
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		vp_ring_kick_anyway(tx());
		ktap_assert(!vp_set_mem(&attacker, false), "flush");
		/* Frames that the host's backlog still has. */
		vp_sleep_ms(1);
		ktap_assert(!vp_set_mem(&sink, false), "flush");
		while (take())
			ktap_assert(!vp_set_mem(&sink, false), "flush");
	}
}

static struct outcome play(const struct hostile_attack *a)
{
	struct vhost_vring_state base = { VP_VQ_TX, 0 };
	struct vp_ring *r = tx();
	u16 i;

	memset(&now, 0, sizeof(now));
	hostile.seq = 0;
	good(0);
	a->craft(&hostile);
	good(50);
	publish();
	settle();
	/* A second kick: is it stuck in the same way? */
	good(51);
	publish();
	settle();
	ktap_assert(!vp_set_backend(&attacker, 0, VP_VQ_TX, -1), "stop");
	ktap_assert(!ioctl(attacker.qp[0].vhost, VHOST_GET_VRING_BASE, &base),
		    "base");
	now.base = base.num;
	now.used = r->used->idx;
	for (i = 0; i < now.used && i < r->num; i++)
		now.ids = now.ids * 31 + r->used->ring[i].id * 7 +
			  r->used->ring[i].len;
	now.error = vp_ring_errors(&attacker);
	return now;
}

/* As after a reset: new rings, and good frames again. */
static void recover(void)
{
	struct vp_region *r = &attacker.mem.region[1];
	unsigned int i;

	ktap_assert(!vp_set_backend(&attacker, 0, VP_VQ_RX, -1), "stop");
	ktap_assert(mmap(r->hva + 8192, 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		    MAP_FAILED, "mmap");
	ktap_assert(!vp_reconfigure(&attacker, attacker.cfg.features), "rings");
	ktap_assert(!vp_start(&attacker), "start");
	memset(&now, 0, sizeof(now));
	for (i = 0; i < 10; i++)
		good(i);
	publish();
	settle();
	ktap_assert(now.good == 10 && !now.odd && tx()->used->idx == 10,
		    "after the reset: %u of 10 frames arrive, %u completed",
		    now.good, tx()->used->idx);
}

static void fresh(void)
{
	ktap_assert(!vp_set_backend(&attacker, 0, VP_VQ_RX, -1) &&
		    !vp_set_backend(&attacker, 0, VP_VQ_TX, -1), "stop");
	ktap_assert(!vp_reconfigure(&attacker, attacker.cfg.features), "rings");
	ktap_assert(!vp_start(&attacker), "start");
}

static void play_all(struct outcome *out, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		fresh();
		out[i] = play(&hostile_attacks[i]);
		recover();
	}
}

static bool dropped(const struct outcome *o)
{
	return o->used == 4 && o->base == 4 && o->good == 3 && !o->odd &&
	       !o->error;
}

static void compare(u64 features)
{
	unsigned int i, n = hostile_nr_attacks, bad = 0;
	struct outcome *plain = calloc(n, sizeof(*plain));
	struct outcome *hooked = calloc(n, sizeof(*hooked));
	struct vp_cfg c;

	vp_cfg_default(&c);
	vp_bridge_add(c.bridge, 0);
	/* The second region is spare room for the attacks. */
	c.features = features;
	c.regions = 2;
	c.tx_num = 128;
	c.rx_buf = 65535;
	c.rx_num = 16;
	ktap_assert(!vp_open(&sink, &c, SINK) && !vp_start(&sink), "sink");
	c.rx_buf = 2048;
	ktap_assert(!vp_open(&attacker, &c, ATTACKER) && !vp_start(&attacker),
		    "attacker");

	ctl_need_unloaded();
	play_all(plain, n);
	ctl_need_loaded();
	ctl_wait(attacker.tap, 1, NULL);
	play_all(hooked, n);
	for (i = 0; i < n; i++) {
		struct outcome *a = &plain[i], *b = &hooked[i];

		if (!memcmp(a, b, sizeof(*a)) ||
		    (hostile_attacks[i].may_drop && dropped(b)))
			continue;
		bad++;
		ktap_msg("%s: vhost-net: used %u base %u ids %llx error %d good %u odd %u/%llu",
			 hostile_attacks[i].name, a->used, a->base, a->ids, a->error,
			 a->good, a->odd, a->odd_bytes);
		ktap_msg("%s: module:    used %u base %u ids %llx error %d good %u odd %u/%llu",
			 hostile_attacks[i].name, b->used, b->base, b->ids, b->error,
			 b->good, b->odd, b->odd_bytes);
	}
	ktap_assert(plain[0].good == 4 && plain[0].used == 4,
		    "no attack: %u frames of 4", plain[0].good);
	vp_close(&attacker);
	vp_close(&sink);
	ctl_wait_none();
	ktap_assert(!bad, "%u of %u attacks end differently", bad, n);
}

static void modern(void)
{
	compare(VP_F_DEFAULT);
}

static void legacy(void)
{
	compare(0);
}

static const struct ktap_case cases[] = {
	{ "modern", modern, 120 },
	{ "legacy", legacy, 120, true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
