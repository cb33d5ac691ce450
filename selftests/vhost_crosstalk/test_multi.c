// SPDX-License-Identifier: GPL-2.0
/* Several queue pairs in a guest, many guests on a bridge, worker threads. */
#include <errno.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "direct.h"
#include "ktap.h"
#include "scenario.h"
#include "vpeer.h"

static void run(unsigned int peers, const struct vp_cfg *c,
		const struct vp_traffic *t, u64 frames, bool module)
{
	scenario_run(&(struct scenario) {
		.peers = peers, .cfg = c, .traffic = *t, .frames = frames,
		.plain = !module,
	});
}

static const struct vp_traffic queue_traffic = {
	.kinds = VP_BIT(VP_UDP4) | VP_BIT(VP_TCP4),
	.min = 60, .max = 1514, .window = 16,
};

static void queues_plain(void)
{
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.queues = 4;
	run(3, &c, &queue_traffic, ktap_count("CROSSTALK_FRAMES", 4000, 400),
	    false);
}

/* In order, each flow in its queue, and by the direct path. */
static void queues_direct(unsigned int peers, unsigned int queues, u64 frames)
{
	struct vp_world *w;
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.queues = queues;
	w = direct_start(peers, &c, &queue_traffic, false);
	direct_wait(w);
	vp_wait_frames(w, frames);
	direct_wait_frames(w, frames);
	direct_finish(w);
}

static void queues_hooked(void)
{
	queues_direct(3, 4, ktap_count("CROSSTALK_FRAMES", 4000, 400));
}

static void queues_two(void)
{
	queues_direct(2, 2, ktap_count("CROSSTALK_FRAMES", 4000, 400));
}

/* ---- which queue of several: the same on both paths ---- */

#define CHOICE_FLOWS	16
#define CHOICE_QUEUES	4
#define CHOICE_MS	10000	/* until all frames of a round are direct */
#define LEARNED_MS	2000	/* a tap forgets after 3 s */

enum { SENDER, RECEIVER };

struct choice {
	struct vp_peer p[2];
	unsigned int shift;	/* the receiver sends flow f by queue f + this */
	u64 seq;
	unsigned int got;
	unsigned int queue[CHOICE_FLOWS];
};

static void set_direct(bool on)
{
	ktap_assert(!ctl_write("direct", on ? "1" : "0"), "direct");
}

static void choice_frame(struct vp_peer *p, unsigned int q, const u8 *frame,
			 u32 len, const struct virtio_net_hdr_v1 *h, void *arg)
{
	struct choice *c = arg;
	enum vp_verdict v;
	struct vp_frame fr;
	char why[128] = "";

	v = vp_frame_check(frame, len, h, true, p->index, &fr, why,
			   sizeof(why));
	/* The host's own, to groups. */
	if (v == VP_FRAME_FOREIGN)
		return;
	ktap_assert(v == VP_FRAME_OK, "%s", why);
	ktap_assert(fr.seq == c->seq, "a frame of round %llu in round %llu",
		    fr.seq, c->seq);
	c->queue[fr.id.sub] = q;
	c->got++;
}

/* Everything that has arrived; returns whether the senders' rings are empty. */
static bool choice_poll(struct choice *c)
{
	bool idle = true;
	unsigned int i, q;

	for (i = 0; i < 2; i++) {
		for (q = 0; q < c->p[i].cfg.queues; q++) {
			vp_rx(&c->p[i], q, UINT_MAX, choice_frame, c);
			vp_ring_kick(&c->p[i].qp[q].rx);
			vp_tx_reclaim(&c->p[i], q);
			idle &= !vp_ring_inflight(&c->p[i].qp[q].tx);
		}
	}
	return idle;
}

static u64 fast_of(const char *tap)
{
	unsigned int ep[CTL_MAX_EP], k, n;
	u64 fast = 0;

	n = ctl_find(tap, ep, CTL_MAX_EP);
	for (k = 0; k < n; k++)
		fast += ctl_ep_num(ep[k], "tx_fast_packets");
	return fast;
}

static u64 choice_fast(const struct choice *c)
{
	return fast_of(c->p[SENDER].tap) + fast_of(c->p[RECEIVER].tap);
}

/*
 * One frame of each flow; returns how many were direct.  A tap learns from a
 * frame before the sender gets it back.
 */
static unsigned int choice_round(struct choice *c, unsigned int from,
				 enum vp_kind kind)
{
	struct vp_peer *p = &c->p[from];
	u64 end = vp_now_ms() + CHOICE_MS * vp_slowness();
	u64 before = choice_fast(c);
	unsigned int f, q;

	c->got = 0;
	c->seq++;
	for (f = 0; f < CHOICE_FLOWS; f++) {
		struct vp_flow_id id = { from, !from, f, 0 };

		q = (f + c->shift) % p->cfg.queues;
		ktap_assert(vp_tx(p, q, kind, id, c->seq, 200, 0) > 0, "tx");
		vp_ring_kick(&p->qp[q].tx);
	}
	while (!choice_poll(c) || c->got < CHOICE_FLOWS) {
		ktap_assert(vp_now_ms() < end, "%u of %u frames arrived",
			    c->got, CHOICE_FLOWS);
		sched_yield();
	}
	ktap_assert(c->got == CHOICE_FLOWS, "%u frames arrived", c->got);
	return choice_fast(c) - before;
}

static void choice_open(struct choice *c)
{
	struct vp_cfg cfg;
	unsigned int i;

	direct_on();
	set_direct(false);
	/* Longer than it takes to detach a queue. */
	ktap_assert(!ctl_write("revalidate_ms", "1000"), "revalidate_ms");
	vp_cfg_default(&cfg);
	vp_world_new(1, cfg.bridge, 0);
	memset(c, 0, sizeof(*c));
	for (i = 0; i < 2; i++) {
		cfg.queues = i == RECEIVER ? CHOICE_QUEUES : 1;
		ktap_assert(!vp_open(&c->p[i], &cfg, i) &&
			    !vp_start(&c->p[i]), "peer");
		ctl_wait(c->p[i].tap, cfg.queues, NULL);
	}
	/* The bridge learns both, the receiver's tap nothing of the flows. */
	choice_round(c, RECEIVER, VP_RAW);
	choice_round(c, SENDER, VP_RAW);
}

static void choice_close(struct choice *c)
{
	set_direct(true);
	ctl_write("revalidate_ms", "60");
	/* As vp_finish() does it. */
	vp_write_file("/sys/kernel/rcu_expedited", "1");
	vp_close(&c->p[SENDER]);
	vp_close(&c->p[RECEIVER]);
	vp_write_file("/sys/kernel/rcu_expedited", "0");
}

static void choice_same(const struct choice *c, const unsigned int *want)
{
	unsigned int f;

	for (f = 0; f < CHOICE_FLOWS; f++)
		ktap_assert(c->queue[f] == want[f],
			    "flow %u came to queue %u, not %u", f, c->queue[f],
			    want[f]);
}

/* Rounds by the direct path, each with the queues that the tap has chosen. */
static void choice_until_direct(struct choice *c, const unsigned int *want)
{
	u64 end = vp_now_ms() + CHOICE_MS * vp_slowness();
	unsigned int n = 0;

	set_direct(true);
	do {
		ktap_assert(vp_now_ms() < end, "%u of %u frames are direct", n,
			    CHOICE_FLOWS);
		n = choice_round(c, SENDER, VP_UDP4);
		choice_same(c, want);
	} while (n < CHOICE_FLOWS);
}

static void choice_of_the_tap(struct choice *c, unsigned int *want)
{
	set_direct(false);
	ktap_assert(!choice_round(c, SENDER, VP_UDP4), "direct is off");
	memcpy(want, c->queue, sizeof(c->queue));
}

static void set_queue(struct choice *c, unsigned int q, short flags)
{
	struct ifreq ifr = { .ifr_flags = flags };

	ktap_assert(!ioctl(c->p[RECEIVER].qp[q].tap, TUNSETQUEUE, &ifr),
		    "TUNSETQUEUE: %s", strerror(errno));
}

/* Queues go and come while flows are direct: the next frame is where it must. */
static void choice_changes(struct choice *c)
{
	unsigned int want[CHOICE_FLOWS], now[CHOICE_FLOWS], f, i;

	for (i = 0; i < 4; i++) {
		/* The last queue takes the number of the one that goes. */
		set_queue(c, i / 2, i & 1 ? IFF_ATTACH_QUEUE :
					    IFF_DETACH_QUEUE);
		choice_round(c, SENDER, VP_UDP4);
		memcpy(now, c->queue, sizeof(now));
		for (f = 0; f < CHOICE_FLOWS; f++)
			ktap_assert((i & 1) || now[f] != i / 2,
				    "flow %u in a detached queue", f);
		choice_of_the_tap(c, want);
		choice_same(c, now);
		choice_until_direct(c, want);
	}
}

/* What the guest has sent before, by either path, goes before the hash. */
static void choice_learned(struct choice *c)
{
	unsigned int want[CHOICE_FLOWS], f, n = 0, m = 0;
	u64 end = vp_now_ms() + 2 * CHOICE_MS * vp_slowness();
	u64 since;

	for (c->shift = 1; n + m < 2 * CHOICE_FLOWS; c->shift++) {
		ktap_assert(vp_now_ms() < end, "%u and %u of %u are direct", n,
			    m, CHOICE_FLOWS);
		for (f = 0; f < CHOICE_FLOWS; f++)
			want[f] = (f + c->shift) % CHOICE_QUEUES;
		/* First by the tap alone. */
		set_direct(c->shift > 1);
		since = vp_now_ms();
		n = choice_round(c, RECEIVER, VP_UDP4);
		m = choice_round(c, SENDER, VP_UDP4);
		if (vp_now_ms() - since < LEARNED_MS)
			choice_same(c, want);
	}
}

static void queue_choice(void)
{
	unsigned int want[CHOICE_FLOWS], f;
	struct choice c;

	choice_open(&c);
	choice_of_the_tap(&c, want);
	for (f = 0; f < CHOICE_FLOWS && want[f] == want[0]; f++)
		;
	ktap_assert(f < CHOICE_FLOWS, "all flows in queue %u", want[0]);
	choice_until_direct(&c, want);
	choice_changes(&c);
	choice_learned(&c);
	choice_close(&c);
}

/* ---- the same, where that cannot be foretold: by the slow path ---- */

#define STEERED		2	/* the queue that the program chooses */

static bool has_verdict(const struct choice *c, const char *word)
{
	char verdicts[4096] = "";
	unsigned int ep;

	ctl_wait(c->p[SENDER].tap, 1, &ep);
	ctl_ep_read(ep, "verdicts", verdicts, sizeof(verdicts));
	return strstr(verdicts, word);
}

/* From the first frame on, and the verdicts say why. */
static void choice_slow(struct choice *c, enum vp_kind kind, const char *why)
{
	u64 end = vp_now_ms() + CHOICE_MS * vp_slowness();
	unsigned int n;

	do {
		ktap_assert(vp_now_ms() < end, "no verdict says %s", why);
		n = choice_round(c, SENDER, kind);
		ktap_assert(!n, "%s: %u frames are direct", why, n);
	} while (!has_verdict(c, why));
}

/* ... and come to one queue, whichever flow they are of. */
static void choice_slow_one(struct choice *c, const char *why)
{
	unsigned int want[CHOICE_FLOWS], f;

	choice_slow(c, VP_UDP4, why);
	for (f = 0; f < CHOICE_FLOWS; f++)
		want[f] = c->queue[0];
	choice_same(c, want);
}

static void set_steering(struct choice *c, int prog)
{
	ktap_assert(!ioctl(c->p[RECEIVER].qp[0].tap, TUNSETSTEERINGEBPF, &prog),
		    "TUNSETSTEERINGEBPF: %s", strerror(errno));
}

static void flow_dissector(int cmd, int prog)
{
	union bpf_attr attr = {
		.attach_bpf_fd = prog,
		.attach_type = BPF_FLOW_DISSECTOR,
	};

	ktap_assert(!syscall(SYS_bpf, cmd, &attr, sizeof(attr)),
		    "flow dissector: %s", strerror(errno));
}

/* Frames that are longer than what is read of them, and of no known kind. */
static void choice_unknown(struct choice *c)
{
	choice_slow(c, VP_RAW, "tap-hash");
}

static void choice_steered(struct choice *c)
{
	int prog = vp_bpf_load(BPF_PROG_TYPE_SOCKET_FILTER, STEERED);

	set_steering(c, prog);
	choice_slow_one(c, "tap-steering");
	ktap_assert(c->queue[0] == STEERED, "queue %u", c->queue[0]);
	set_steering(c, -1);
	close(prog);
}

/* It finds no flow in any frame: all are of the same one. */
static void choice_dissected(struct choice *c)
{
	int prog = vp_bpf_load(BPF_PROG_TYPE_FLOW_DISSECTOR, BPF_OK);

	flow_dissector(BPF_PROG_ATTACH, prog);
	choice_slow_one(c, "flow-dissector");
	flow_dissector(BPF_PROG_DETACH, prog);
	close(prog);
}

static void queue_reasons(void)
{
	static void (* const change[])(struct choice *c) = {
		choice_unknown, choice_steered, choice_dissected,
	};
	unsigned int want[CHOICE_FLOWS], i;
	struct choice c;

	choice_open(&c);
	choice_of_the_tap(&c, want);
	choice_until_direct(&c, want);
	for (i = 0; i < VP_ARRAY_SIZE(change); i++) {
		change[i](&c);
		choice_until_direct(&c, want);
	}
	choice_close(&c);
}

/* ---- queues that go and come under traffic ---- */

#define DETACH_QUEUES	4
#define DETACH_MS	5

static const unsigned int detached[] = { 0, DETACH_QUEUES - 1 };
static bool *detach_no_more;	/* shared */

/*
 * One of the two goes, and comes back with the last number; the other one gets
 * that of the one that goes, unless it has it.
 */
static void detach_or_attach(struct vp_peer *p, u64 count)
{
	static bool is_detached;
	static unsigned int n;
	struct ifreq ifr = { .ifr_flags = IFF_DETACH_QUEUE };

	(void)count;
	if (is_detached)
		ifr.ifr_flags = IFF_ATTACH_QUEUE;
	else if (READ_ONCE(*detach_no_more))
		return;
	ktap_assert(!ioctl(p->qp[detached[n / 2 % 2]].tap, TUNSETQUEUE, &ifr),
		    "TUNSETQUEUE: %s", strerror(errno));
	is_detached = !is_detached;
	n++;
}

/* Each change ends all answers: frames come back to the direct path after it. */
static void detach_wait_fast(const struct vp_world *w)
{
	u64 end = vp_now_ms() + CHOICE_MS * vp_slowness();
	/* Of the two taps, this one has all of its queues all the time. */
	u64 before = fast_of(w->peer[0].tap);

	while (fast_of(w->peer[0].tap) == before) {
		ktap_assert(vp_now_ms() < end, "no direct path");
		vp_sleep_ms(1);
	}
}

/*
 * Flows of the queues that stay, whose numbers do not change either, notice
 * nothing.  Frames of the others get lost, as a tap has it, until the guest has
 * taught the tap anew; but what comes is right, and comes once.
 */
static void queues_detached(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_DETACH", 400, 40);
	struct vp_world *w;
	struct vp_cfg c;

	detach_no_more = mmap(NULL, sizeof(*detach_no_more),
			      PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ktap_assert(detach_no_more != MAP_FAILED, "mmap");
	vp_cfg_default(&c);
	c.queues = DETACH_QUEUES;
	w = direct_start(2, &c, &queue_traffic, false);
	direct_wait(w);
	/* Now the taps know which queue is whose. */
	vp_wait_frames(w, 200);
	for (i = 0; i < VP_ARRAY_SIZE(detached); i++)
		w->loose |= VP_BIT(detached[i]);

	w->event_ms = DETACH_MS;
	w->event_peers = VP_BIT(1);
	WRITE_ONCE(w->event, detach_or_attach);
	for (i = 0; i < n; i += DETACH_QUEUES) {
		vp_wait_events(w, DETACH_QUEUES);
		detach_wait_fast(w);
	}

	WRITE_ONCE(*detach_no_more, true);
	vp_wait_events(w, 2);
	ctl_wait_world(w, DETACH_QUEUES);
	vp_wait_frames(w, 200);
	direct_wait(w);
	direct_end(w);
}

static void many(bool module)
{
	struct vp_traffic t = { .min = 60, .max = 1514, .window = 8 };
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.rx_num = 128;
	c.tx_num = 128;
	run(ktap_quick() ? 8 : 16, &c, &t, ktap_count("CROSSTALK_FRAMES", 50, 5), module);
}

static void many_plain(void)
{
	many(false);
}

static void many_hooked(void)
{
	many(true);
}

/* The worker as a kernel thread, and as a thread of its owner (since 6.4). */
static void kthread_worker(void)
{
	struct vp_traffic t = { .min = 60, .max = 1514, .window = 32 };
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.kthread_worker = true;
	run(2, &c, &t, ktap_count("CROSSTALK_FRAMES", 3000, 300), true);
}

/* A process that has the device's descriptor, but is not its owner, dies. */
static void forked_owner(void)
{
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int i, ep;
	struct vp_peer p;
	int status, go[2];
	char b;

	ctl_need_loaded();
	vp_cfg_default(&c);
	w = vp_world_new(1, c.bridge, 0);
	(void)w;
	for (i = 0; i < (ktap_quick() ? 4 : 10); i++) {
		pid_t pid;

		ktap_assert(!vp_open(&p, &c, 0) && !vp_start(&p), "peer");
		ctl_wait(p.tap, 1, &ep);
		ktap_assert(!pipe(go), "pipe");
		pid = fork();
		if (!pid) {
			close(go[1]);
			while (read(go[0], &b, 1) > 0)
				;
			_exit(0);
		}
		close(go[0]);
		if (i & 1) {
			/* The child holds it on; its scan must not double it. */
			close(p.qp[0].vhost);
			p.qp[0].vhost = -1;
			ctl_scan();
			ctl_wait(p.tap, 1, &ep);
			close(go[1]);
			waitpid(pid, &status, 0);
		} else {
			close(go[1]);
			waitpid(pid, &status, 0);
			ctl_wait(p.tap, 1, &ep);
			ctl_wait_state(ep, "hooked", "none");
			close(p.qp[0].vhost);
			p.qp[0].vhost = -1;
		}
		ctl_wait_gone(p.tap);
		vp_close(&p);
	}
}

static const struct ktap_case cases[] = {
	{ "queues_plain", queues_plain, .slow = true },
	{ "queues_hooked", queues_hooked, .slow = true },
	{ "queues_two", queues_two },
	{ "queue_choice", queue_choice },
	{ "queue_reasons", queue_reasons, .slow = true },
	{ "queues_detached", queues_detached, .slow = true },
	{ "many_plain", many_plain, 100, true },
	{ "many_hooked", many_hooked, 100, .slow = true },
	{ "kthread_worker", kthread_worker },
	{ "forked_owner", forked_owner },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
