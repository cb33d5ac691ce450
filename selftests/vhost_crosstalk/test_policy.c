// SPDX-License-Identifier: GPL-2.0
/*
 * C2, C3: never a policy change.
 *
 * Frames go from guest A to guest B by the direct path, one every millisecond.
 * Then an operator changes one thing.  From 100 ms later on, no frame takes the
 * direct path, whoever would have got it from the bridge gets it, and the flow's
 * verdict names the reason.  What is undone brings the direct path back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctl.h"
#include "ktap.h"
#include "lab.h"

#define ETH_P_OURS	0x88b5		/* what vp_frame_build() makes */
#define SHOTS		4096
#define BACK_MS		5000
#define ARRIVE_MS	5000
#define NOBODY_MS	4		/* then a frame has got lost */
#define AFTER		4		/* shots that must agree */

/*
 * An answer of the module ends after 60 ms (revalidate_ms) by jiffies, and so
 * they are what is counted: with vp_tick_ms(), which stands still when they do,
 * because a processor does not get to run.  A frame counts from when it is
 * offered, however late the device takes it.
 */
#define EFFECT_MS	100

enum { A, B, C };

#define TO_A		VP_BIT(A)
#define TO_B		VP_BIT(B)
#define TO_C		VP_BIT(C)
#define TO_HOST		VP_BIT(LAB_HOST)
#define NOBODY		0

enum {
	STAYS = 1,	/* the bridge does nothing else: still the direct path */
	NOW = 2,	/* asked for each batch: not one frame more */
	FREE = 4,	/* the change itself needs no RTNL */
	UNNAMED = 8,	/* no flow's verdict says so */
	TAGGED = 16,	/* B gets it with a VLAN tag */
	MOVED = 32,	/* C gets it, by a direct path of its own */
};

struct change {
	const char *name;
	/* For vp_script(); %a %b %c: the guests' interfaces, %r: what joins them */
	const char *on, *off;
	u32 got;		/* bits: who gets the frame then */
	const char *reason;
	unsigned int flags;
	void (*on_fn)(void);
	void (*off_fn)(void);
};

static struct lab lab;
static const char *joint;		/* bridge, or macvtaps' lower device */

/* ---- single frames, and what became of them ---- */

struct shot {
	u64 ms;			/* vp_tick_ms() before it was sent */
	u32 got;
	bool fast;
};

static struct shot shots[SHOTS];
static u64 next_shot;
static enum vp_kind shot_kind = VP_RAW;
static u32 shot_len = VP_FRAME_MIN;
static bool lenient;	/* about contents: somebody changes them */

static u32 build(u8 *frame, struct virtio_net_hdr_v1 *h, u64 seq)
{
	struct vp_flow_id id = { A, B, 0, 0 };

	return vp_frame_build(frame, h, shot_kind, id, seq, shot_len,
			      lab.p[B].mac, 0);
}

/* Whose frame it is is part of its contents: every byte is checked. */
static void take(void)
{
	struct vp_frame fr;
	unsigned int i;
	char why[160];

	lab_poll(&lab);
	for (i = 0; i < lab.nseen; i++) {
		struct lab_seen *s = &lab.seen[i];
		const u8 *data = s->data;
		u32 len = s->len;
		u8 *plain = NULL;

		if (len < VP_FRAME_MIN || memcmp(data + 6, lab.p[A].mac, 6) ||
		    memcmp(data, lab.p[B].mac, 6))
			continue;
		if (lenient && data[12] == 0x81 && !data[13]) {
			plain = malloc(len);
			memcpy(plain, data, 12);
			memcpy(plain + 12, data + 16, len - 16);
			data = plain;
			len -= 4;
		}
		if (vp_frame_check(data, len, &s->h, s->who != LAB_HOST, B, &fr,
				   why, sizeof(why)) != VP_FRAME_OK)
			ktap_fail("%u has got a bad frame: %s", s->who, why);
		shots[fr.seq % SHOTS].got |= VP_BIT(s->who);
		free(plain);
	}
	lab_forget(&lab);
}

static u64 fast_packets(void)
{
	u64 n = 0;
	unsigned int i;

	for (i = 0; i < lab.n; i++)
		n += ctl_ep_num(lab.ep[i], "tx_fast_packets");
	return n;
}

/* One frame from A to B; waits for @want, or for nobody, to get it. */
static struct shot *shoot(u32 want)
{
	struct shot *s = &shots[next_shot % SHOTS];
	u8 frame[VP_FRAME_MAX];
	struct virtio_net_hdr_v1 h;
	u64 fast = fast_packets(), end;
	u32 len = build(frame, &h, next_shot++);

	*s = (struct shot) { .ms = vp_tick_ms() };
	lab_send(&lab, A, &h, frame, len);
	lab_kick(&lab, A);
	lab_wait_sent(&lab);
	s->fast = fast_packets() != fast;
	end = vp_now_ms() + NOBODY_MS;
	for (;;) {
		take();
		if ((want && (s->got & want) == want) || vp_now_ms() >= end)
			break;
		sched_yield();
	}
	return s;
}

/* The same, and only those may get it. */
static const struct shot *shoot_at(const char *what, u32 want)
{
	const struct shot *s = shoot(want);
	u64 end = vp_now_ms() + ARRIVE_MS * vp_slowness();

	while (s->got != want && !(s->got & ~want) && vp_now_ms() < end) {
		sched_yield();
		take();
	}
	ktap_assert(s->got == want, "%s: a frame went to %x, not %x (bits)",
		    what, s->got, want);
	return s;
}

/* Until frames take the direct path to B, several in a row. */
static void wait_fast(const char *what)
{
	u64 end = vp_now_ms() + BACK_MS * vp_slowness();
	unsigned int ok = 0, n = 0;
	char word[32];

	while (ok < 2) {
		struct shot *s = shoot(TO_B);

		ok = s->fast && s->got == TO_B ? ok + 1 : 0;
		if (ok)
			continue;
		if (vp_now_ms() > end) {
			lab_verdict(&lab, A, lab.p[B].mac, 0, word,
				    sizeof(word));
			ktap_fail("%s: no direct path (%s)", what, word);
		}
		/* Old news about addresses is forgotten by links that move. */
		if (!(n++ % 16)) {
			lab_learn_anew(&lab);
			lab_learn(&lab);
		}
		vp_sleep_ms(1);
	}
}

/* ---- changes ---- */

static void script(const char *template)
{
	char cmd[1024], *out = cmd;
	const char *s;

	for (s = template; *s && out < cmd + sizeof(cmd) - 32; s++) {
		if (*s != '%') {
			*out++ = *s;
			continue;
		}
		s++;
		if (*s == 'r')
			out += sprintf(out, "%s", joint);
		else if (*s == 'B')
			out += sprintf(out, "52:54:00:76:70:01");
		else if (*s == 'A')
			out += sprintf(out, "52:54:00:76:70:00");
		else
			out += sprintf(out, "%s", lab.p[*s - 'a'].tap);
	}
	*out = 0;
	vp_script(cmd);
}

static void apply(const struct change *c)
{
	if (c->on)
		script(c->on);
	if (c->on_fn)
		c->on_fn();
}

static void undo(const struct change *c)
{
	if (c->off_fn)
		c->off_fn();
	if (c->off)
		script(c->off);
}

static bool reason_is(const struct change *c)
{
	char word[32];

	if (c->flags & UNNAMED || !c->reason)
		return true;
	lab_verdict(&lab, A, lab.p[B].mac, 0, word, sizeof(word));
	return !strcmp(word, c->reason);
}

static bool is_old(const struct change *c, const struct shot *s)
{
	return c->flags & MOVED ? s->got & TO_B : s->fast;
}

static bool is_new(const struct change *c, const struct shot *s)
{
	return !is_old(c, s) && s->got == c->got && reason_is(c);
}

static bool in_time(const struct change *c, u64 since)
{
	return !(c->flags & NOW) && vp_tick_ms() - since <= EFFECT_MS;
}

/*
 * @whole: all of the time in which it may take effect is watched; otherwise, as
 * soon as some frames in a row have gone the new way, that is where they go.
 */
static void watch(const struct change *c, u64 since, bool whole)
{
	u64 last = 0, end;
	unsigned int i, n = 0;
	const struct shot *s;
	char word[32];

	while ((whole || n <= AFTER) && in_time(c, since)) {
		s = shoot(c->got);
		n = is_new(c, s) ? n + 1 : 0;
		if (is_old(c, s))
			last = s->ms - since + 1;
		vp_sleep_ms(1);
	}
	/* Too late for any other way, if one of these is the first to be new. */
	for (i = 0; (whole || n <= AFTER) && i < AFTER; i++) {
		s = shoot_at(c->name, c->got);
		ktap_assert(!is_old(c, s),
			    "%s: %llu ms later, frames go the old way", c->name,
			    s->ms - since);
	}
	end = vp_now_ms() + BACK_MS * vp_slowness();
	while (!whole && !reason_is(c)) {
		lab_verdict(&lab, A, lab.p[B].mac, 0, word, sizeof(word));
		ktap_assert(vp_now_ms() < end,
			    "%s: the verdict says %s, not %s", c->name, word,
			    c->reason);
		shoot_at(c->name, c->got);
		vp_sleep_ms(1);
	}
	ktap_msg("%s: after %llu ms: %s", c->name, last,
		 c->reason ?: "not the direct path");
}

/* The change makes no difference to a frame from A to B. */
static void watch_same(const struct change *c)
{
	u64 since = vp_now_ms();

	while (vp_now_ms() - since <= 4 * (ktap_quick() ? 20 : 60) / 3)
		shoot_at(c->name, TO_B);
	wait_fast(c->name);
	ktap_msg("%s: no difference", c->name);
}

static void try_change(const struct change *c)
{
	lenient = c->flags & TAGGED;
	wait_fast(c->name);
	apply(c);
	if (c->flags & STAYS)
		watch_same(c);
	else
		watch(c, vp_tick_ms(), false);
	undo(c);
	wait_fast(c->name);
	lenient = false;
}

/* "make quick" has no time for all of them. */
static bool is_brief(void)
{
	const char *slow = getenv("CROSSTALK_SLOW");

	return ktap_quick() && !(slow && *slow);
}

static void try_all(const struct change *c, unsigned int n)
{
	unsigned int step = is_brief() ? 4 : 1, i;

	for (i = 0; i < n; i += step)
		try_change(&c[i]);
}

/*
 * In quick runs answers are short-lived, because a change takes effect when
 * they end: 60 ms, as they are, are waited for in test_policy:rtnl.
 */
static void start(struct vp_cfg *cfg, unsigned int n)
{
	ctl_need_loaded();
	ktap_assert(!ctl_write("revalidate_ms", ktap_quick() ? "20" : "60"),
		    "revalidate_ms");
	joint = cfg->macvtap ?: cfg->bridge;
	lab_open(&lab, cfg, n);
	if (!cfg->macvtap)
		lab_watch(&lab, cfg->bridge, ETH_P_OURS);
}

static void start_bridge(void)
{
	struct vp_cfg cfg[3];
	unsigned int i;

	for (i = 0; i < 3; i++)
		vp_cfg_default(&cfg[i]);
	start(cfg, 3);
}

static void finish(void)
{
	lab_close(&lab);
	ctl_write("revalidate_ms", "60");
	ctl_write("direct", "0");
}

static void run_bridge(const struct change *c, unsigned int n)
{
	start_bridge();
	try_all(c, n);
	finish();
}

#define RUN_BRIDGE(c)	run_bridge(c, VP_ARRAY_SIZE(c))

/* ---- the forwarding table ---- */

/* C sends with B's address: the bridge learns that B has moved. */
static void b_speaks_from_c(void)
{
	struct vp_flow_id id = { B, A, 0, 0 };
	u8 frame[VP_FRAME_MIN], mac[6];
	struct virtio_net_hdr_v1 h;

	memcpy(mac, lab.p[A].mac, 6);
	vp_frame_build(frame, &h, VP_RAW, id, 0, sizeof(frame), mac, 0);
	lab_send(&lab, C, &h, frame, sizeof(frame));
	lab_kick(&lab, C);
	lab_wait_sent(&lab);
}

static const struct change fdb_changes[] = {
	{ "static entry at another port",
	  "bridge fdb replace %B dev %c master static",
	  "bridge fdb replace %B dev %b master dynamic", TO_C, NULL, MOVED },
	{ "learned at another port", NULL, NULL, TO_C, NULL, FREE | MOVED,
	  b_speaks_from_c },
	{ "entry removed", "bridge fdb del %B dev %b master", NULL,
	  TO_B | TO_C, "no-fdb" },
	{ "the host's address", "bridge fdb replace %B dev %r self permanent",
	  "bridge fdb del %B dev %r self", TO_HOST, "local" },
	{ "entry at a port that is no guest's",
	  "ip link add vethx type veth peer vethy; ip link set vethy up; ip link set vethx master %r up; bridge fdb replace %B dev vethx master static",
	  "bridge fdb replace %B dev %b master dynamic; ip link del vethx",
	  NOBODY, "remote" },
	{ "out of the bridge", "ip link set %b nomaster",
	  "ip link set %b master %r", TO_C, "no-fdb" },
	{ "static entry at the same port",
	  "bridge fdb replace %B dev %b master static",
	  "bridge fdb replace %B dev %b master dynamic", TO_B, NULL, STAYS },
};

static void fdb(void)
{
	RUN_BRIDGE(fdb_changes);
}

/* ---- VLANs ---- */

static const struct change vlan_changes[] = {
	{ "filter on",
	  "bridge fdb del %B dev %b vlan 1 master 2>/dev/null || :; ip link set %r type bridge vlan_filtering 1",
	  NULL,
	  TO_B | TO_C, "no-fdb" },
	/* From here on it is on. */
	{ "PVID of the sender", "bridge vlan add vid 5 dev %a pvid untagged",
	  "bridge vlan add vid 1 dev %a pvid untagged", NOBODY, "no-fdb" },
	{ "no PVID", "bridge vlan del vid 1 dev %a",
	  "bridge vlan add vid 1 dev %a pvid untagged", NOBODY, "vlan" },
	{ "receiver is no member", "bridge vlan del vid 1 dev %b",
	  "bridge vlan add vid 1 dev %b pvid untagged", TO_C, "no-fdb" },
	{ "receiver gets tags", "bridge vlan add vid 1 dev %b pvid",
	  "bridge vlan add vid 1 dev %b pvid untagged", TO_B, "vlan-tag",
	  TAGGED },
	{ "state of the receiver's", "bridge vlan set vid 1 dev %b state blocking",
	  "bridge vlan set vid 1 dev %b state forwarding", NOBODY,
	  "vlan-state" },
	{ "state of the sender's", "bridge vlan set vid 1 dev %a state learning",
	  "bridge vlan set vid 1 dev %a state forwarding", NOBODY,
	  "vlan-state" },
	{ "statistics", "ip link set %r type bridge vlan_stats_enabled 1",
	  "ip link set %r type bridge vlan_stats_enabled 0", TO_B,
	  "vlan-stats" },
	{ "tunnel", "bridge link set dev %a vlan_tunnel on",
	  "bridge link set dev %a vlan_tunnel off", TO_B, "vlan-tunnel" },
	{ "another member", "bridge vlan add vid 1-20 dev %c",
	  "bridge vlan del vid 2-20 dev %c", TO_B, NULL, STAYS },
};

static void vlan(void)
{
	RUN_BRIDGE(vlan_changes);
}

/* ---- bridge and ports ---- */

static const struct change port_changes[] = {
	{ "STP: receiver disabled", "bridge link set dev %b state 0",
	  "bridge link set dev %b state 3", NOBODY, "stp" },
	{ "STP: receiver learns", "bridge link set dev %b state 2",
	  "bridge link set dev %b state 3", NOBODY, "stp" },
	{ "STP: sender listens", "bridge link set dev %a state 1",
	  "bridge link set dev %a state 3", NOBODY, "stp" },
	{ "isolated",
	  "bridge link set dev %b isolated on; bridge link set dev %a isolated on",
	  "bridge link set dev %a isolated off; bridge link set dev %b isolated off",
	  NOBODY, "isolated" },
	{ "one of them isolated", "bridge link set dev %b isolated on",
	  "bridge link set dev %b isolated off", TO_B, NULL, STAYS },
	{ "locked",
	  "bridge link set dev %a learning off locked on; bridge fdb del %A dev %a master",
	  "bridge link set dev %a locked off learning on", NOBODY, "locked" },
	{ "locked, and known",
	  "bridge fdb replace %A dev %a master static; bridge link set dev %a locked on",
	  "bridge link set dev %a locked off; bridge fdb replace %A dev %a master dynamic",
	  TO_B, NULL, STAYS },
	{ "hairpin", "bridge link set dev %b hairpin on",
	  "bridge link set dev %b hairpin off", TO_B, NULL, STAYS },
	{ "learning off", "bridge link set dev %a learning off",
	  "bridge link set dev %a learning on", TO_B, NULL, STAYS },
	{ "source is elsewhere", "bridge fdb replace %A dev %c master static sticky",
	  "bridge fdb replace %A dev %a master dynamic", TO_B, "src-moved" },
	{ "neighbour suppression", "bridge link set dev %c neigh_suppress on",
	  "bridge link set dev %c neigh_suppress off", TO_B,
	  "neigh-suppress" },
	{ "proxy ARP", "ip link set %c type bridge_slave proxy_arp on",
	  "ip link set %c type bridge_slave proxy_arp off", TO_B,
	  "proxy-arp" },
	{ "promiscuous bridge", "ip link set %r promisc on",
	  "ip link set %r promisc off", TO_B | TO_HOST, "promisc-bridge",
	  NOW },
	{ "macvlan above the bridge",
	  "ip link add mvx link %r type macvlan; ip link set mvx up",
	  "ip link del mvx", TO_B | TO_HOST, "promisc-bridge", NOW },
	{ "VLAN device above a port",
	  "ip link add link %b name vlx type vlan id 5", "ip link del vlx",
	  TO_B, "upper-dev" },
	{ "VLAN device above the bridge",
	  "ip link add link %r name vlx type vlan id 5; ip link set vlx up",
	  "ip link del vlx", TO_B, NULL, STAYS },
};

static void ports(void)
{
	RUN_BRIDGE(port_changes);
}

/* ---- links ---- */

static void carrier(int on)
{
	ktap_assert(!ioctl(lab.p[B].qp[0].tap, TUNSETCARRIER, &on),
		    "TUNSETCARRIER: %s", strerror(errno));
}

/*
 * The bridge is told by a timer, the module looks for itself.  The timer's work
 * shows the link as not running, waits for its queues to come to rest, tells the
 * bridge, and only then gives back RTNL, for which a change to what is already
 * there waits.
 */
static void carrier_off(void)
{
	carrier(0);
	ktap_assert(!shoot(NOBODY)->fast, "no carrier, and still fast");
	while (vp_link_running(lab.p[B].tap))
		vp_sleep_ms(2);
	script("ip link set %b mtu 1500");
}

static void carrier_on(void)
{
	carrier(1);
}

static const struct change link_changes[] = {
	{ "receiver's down", "ip link set %b down", "ip link set %b up",
	  TO_C, "no-fdb", NOW },
	{ "sender's down", "ip link set %a down", "ip link set %a up",
	  NOBODY, NULL, NOW | UNNAMED },
	{ "bridge down", "ip link set %r down", "ip link set %r up",
	  NOBODY, NULL, UNNAMED },
	{ "no carrier", NULL, NULL, TO_C, "no-fdb", NOW, carrier_off,
	  carrier_on },
	{ "another port down", "ip link set %c down", "ip link set %c up",
	  TO_B, NULL, STAYS },
};

static void links(void)
{
	static const struct change mtu[] = {
		{ "MTU", "ip link set %b mtu 600", "ip link set %b mtu 1500",
		  NOBODY, NULL, UNNAMED },
	};
	static const struct change mtu_small[] = {
		{ "MTU, and a frame that fits", "ip link set %b mtu 1200",
		  "ip link set %b mtu 1500", TO_B, NULL, STAYS },
	};

	start_bridge();
	try_all(link_changes, VP_ARRAY_SIZE(link_changes));
	shot_len = 1000;
	try_all(mtu, 1);
	try_all(mtu_small, 1);
	finish();
}

/* ---- filters ---- */

static int xdp_link;

static void xdp_on(u32 flags)
{
	union bpf_attr attr = {};
	int prog = vp_bpf_load(BPF_PROG_TYPE_XDP, XDP_DROP);

	attr.link_create.prog_fd = prog;
	attr.link_create.target_ifindex = if_nametoindex(lab.p[A].tap);
	attr.link_create.attach_type = BPF_XDP;
	attr.link_create.flags = flags;
	xdp_link = syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
	ktap_assert(xdp_link >= 0, "BPF_LINK_CREATE: %s", strerror(errno));
	close(prog);
}

static void xdp_native(void)
{
	xdp_on(XDP_FLAGS_DRV_MODE);
}

static void xdp_generic(void)
{
	xdp_on(XDP_FLAGS_SKB_MODE);
}

static void xdp_off(void)
{
	close(xdp_link);
}

#define NFT(family, hook, priority) \
	"nft 'add table " family " x; add chain " family " x c { type filter hook " \
	hook " priority " priority "; policy drop; }'"

/* An interface gets the default one again. */
#define DEFAULT_QDISC \
	"tc qdisc add dev %b root pfifo; tc qdisc del dev %b root"

/* It is the initial name space's to say which that is. */
static int default_qdisc_open(void)
{
	int ours = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int init = open("/proc/1/ns/net", O_RDONLY | O_CLOEXEC);
	int fd;

	ktap_assert(!setns(init, CLONE_NEWNET), "setns: %s", strerror(errno));
	fd = open("/proc/sys/net/core/default_qdisc", O_RDWR | O_CLOEXEC);
	ktap_assert(fd >= 0, "default_qdisc: %s", strerror(errno));
	ktap_assert(!setns(ours, CLONE_NEWNET), "setns: %s", strerror(errno));
	close(init);
	close(ours);
	return fd;
}

static void sfq_on(void)
{
	int fd = default_qdisc_open();
	char was[32];
	ssize_t n = read(fd, was, sizeof(was));

	ktap_assert(n > 0 && pwrite(fd, "sfq", 3, 0) == 3,
		    "default_qdisc: %s", strerror(errno));
	script(DEFAULT_QDISC);
	ktap_assert(pwrite(fd, was, n, 0) == n, "default_qdisc: %s",
		    strerror(errno));
	close(fd);
}

static const struct change filter_changes[] = {
	{ "tc ingress",
	  "tc qdisc add dev %a clsact; tc filter add dev %a ingress matchall action drop",
	  "tc qdisc del dev %a clsact", NOBODY, "tc-ingress" },
	{ "tc egress",
	  "tc qdisc add dev %b clsact; tc filter add dev %b egress matchall action drop",
	  "tc qdisc del dev %b clsact", NOBODY, "tc-egress" },
	{ "tc mirror",
	  "tc qdisc add dev %a clsact; tc filter add dev %a ingress matchall action mirred egress mirror dev %c",
	  "tc qdisc del dev %a clsact", TO_B | TO_C, "tc-ingress" },
	{ "tc on what the receiver sends",
	  "tc qdisc add dev %b clsact; tc filter add dev %b ingress matchall action drop",
	  "tc qdisc del dev %b clsact", TO_B, NULL, STAYS },
	{ "root qdisc", "tc qdisc add dev %b root tbf rate 1gbit burst 100k latency 50ms",
	  "tc qdisc del dev %b root", TO_B, "qdisc" },
	{ "default qdisc of an unusual kind", NULL, DEFAULT_QDISC, TO_B,
	  "qdisc", 0, sfq_on },
	{ "native XDP", NULL, NULL, NOBODY, "xdp", 0, xdp_native, xdp_off },
	{ "generic XDP", NULL, NULL, NOBODY, "xdp", 0, xdp_generic, xdp_off },
	{ "nftables, bridge forward", NFT("bridge", "forward", "0"),
	  "nft delete table bridge x", NOBODY, "bridge-netfilter", FREE },
	{ "nftables, bridge prerouting", NFT("bridge", "prerouting", "0"),
	  "nft delete table bridge x", NOBODY, "bridge-netfilter", FREE },
	{ "nftables, bridge input", NFT("bridge", "input", "0"),
	  "nft delete table bridge x", TO_B, NULL, STAYS },
	{ "nftables, ingress", NFT("netdev", "ingress device %a", "0"),
	  "nft delete table netdev x", NOBODY, "nft-ingress", FREE },
	{ "nftables, egress", NFT("netdev", "egress device %b", "0"),
	  "nft delete table netdev x", NOBODY, "nft-egress", FREE },
	{ "br_netfilter", "modprobe br_netfilter", "rmmod br_netfilter", TO_B,
	  "br-netfilter" },
};

static void filters(void)
{
	RUN_BRIDGE(filter_changes);
}

/* ---- what belongs to the tap ---- */

static void tap_do(unsigned int guest, unsigned long req, void *arg,
		   const char *what)
{
	ktap_assert(ioctl(lab.p[guest].qp[0].tap, req, arg) >= 0, "%s: %s",
		    what, strerror(errno));
}

static void txfilter(unsigned int count)
{
	struct {
		struct tun_filter f;
		u8 addr[6];
	} f = { .f.count = count, .addr = { 2, 0, 0, 0, 0, 1 } };

	tap_do(B, TUNSETTXFILTER, &f, "TUNSETTXFILTER");
}

static void txfilter_on(void)
{
	txfilter(1);
}

static void txfilter_off(void)
{
	txfilter(0);
}

static void tap_prog(unsigned long req, bool on, u32 ret)
{
	int none = -1, fd;

	if (!on) {
		tap_do(B, req, &none, "no program");
		return;
	}
	fd = vp_bpf_load(BPF_PROG_TYPE_SOCKET_FILTER, ret);
	tap_do(B, req, &fd, "program");
	close(fd);
}

static void filter_prog_on(void)
{
	tap_prog(TUNSETFILTEREBPF, true, 0);
}

static void filter_prog_off(void)
{
	tap_prog(TUNSETFILTEREBPF, false, 0);
}

static void steering_on(void)
{
	tap_prog(TUNSETSTEERINGEBPF, true, 0);
}

static void steering_off(void)
{
	tap_prog(TUNSETSTEERINGEBPF, false, 0);
}

static struct sock_filter drop_all[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
static struct sock_fprog drop_prog = { 1, drop_all };

static void socket_filter_on(void)
{
	tap_do(B, TUNATTACHFILTER, &drop_prog, "TUNATTACHFILTER");
}

static void socket_filter_off(void)
{
	tap_do(B, TUNDETACHFILTER, &drop_prog, "TUNDETACHFILTER");
}

static void sndbuf_on(void)
{
	int n = 1 << 20;

	tap_do(A, TUNSETSNDBUF, &n, "TUNSETSNDBUF");
}

static void sndbuf_off(void)
{
	int n = 0x7fffffff;

	tap_do(A, TUNSETSNDBUF, &n, "TUNSETSNDBUF");
}

static void no_offloads(void)
{
	ktap_assert(!ioctl(lab.p[B].qp[0].tap, TUNSETOFFLOAD, 0),
		    "TUNSETOFFLOAD: %s", strerror(errno));
}

static void offloads(void)
{
	ktap_assert(!ioctl(lab.p[B].qp[0].tap, TUNSETOFFLOAD,
			   TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6),
		    "TUNSETOFFLOAD: %s", strerror(errno));
}

static const struct change tap_changes[] = {
	{ "address filter", NULL, NULL, NOBODY, "tap-filter", 0, txfilter_on,
	  txfilter_off },
	{ "filter program", NULL, NULL, NOBODY, "tap-filter", 0,
	  filter_prog_on, filter_prog_off },
	{ "steering program", NULL, NULL, TO_B, "tap-steering", 0, steering_on,
	  steering_off },
	{ "socket filter", NULL, NULL, NOBODY, "socket-filter", 0,
	  socket_filter_on, socket_filter_off },
	{ "send buffer", NULL, NULL, TO_B, "tap-sndbuf", 0, sndbuf_on,
	  sndbuf_off },
	{ "ring without room", "ip link set %b txqueuelen 0",
	  "ip link set %b txqueuelen 500", NOBODY, "tap-ring" },
	{ "offloads, and a frame that needs none", NULL, NULL, TO_B, NULL,
	  STAYS, no_offloads, offloads },
};

static void taps(void)
{
	static const struct change csum[] = {
		{ "offloads", NULL, NULL, TO_B, NULL, UNNAMED, no_offloads,
		  offloads },
	};

	start_bridge();
	try_all(tap_changes, VP_ARRAY_SIZE(tap_changes));
	/* B gets a whole checksum then: the frame's check looks at it. */
	shot_kind = VP_UDP4;
	shot_len = 300;
	try_all(csum, 1);
	finish();
}

/* ---- those who look on, and the module's own switches ---- */

static void watch_a(void)
{
	lab_watch(&lab, lab.p[A].tap, ETH_P_ALL);
}

static void watch_b(void)
{
	lab_watch(&lab, lab.p[B].tap, ETH_P_ALL);
}

static void watch_bridge(void)
{
	lab_watch(&lab, joint, ETH_P_ALL);
}

static void watch_any(void)
{
	lab_watch(&lab, NULL, ETH_P_ALL);
}

static void unwatch(void)
{
	lab_unwatch(&lab);
}

static void log_on(void)
{
	ktap_assert(!vp_log_on(&lab.p[B]), "no dirty log");
}

static void log_off(void)
{
	ktap_assert(!vp_log_off(&lab.p[B]), "still a dirty log");
}

static void ep_write(unsigned int guest, const char *text)
{
	ktap_assert(!ctl_ep_write(lab.ep[guest], "enable", text), "enable");
}

static void sender_off(void)
{
	ep_write(A, "0");
}

static void sender_on(void)
{
	ep_write(A, "1");
}

static void receiver_off(void)
{
	ep_write(B, "0");
}

static void receiver_on(void)
{
	ep_write(B, "1");
}

static void direct_off(void)
{
	ktap_assert(!ctl_write("direct", "0"), "direct");
}

static void direct_again(void)
{
	ktap_assert(!ctl_write("direct", "1"), "direct");
}

static void all_off(void)
{
	ktap_assert(!ctl_write("enable", "0"), "enable");
}

static void all_on(void)
{
	ktap_assert(!ctl_write("enable", "1"), "enable");
}

#define AT_ONCE	(NOW | FREE)

static const struct change watch_changes[] = {
	{ "tcpdump at the sender", NULL, NULL, TO_B | TO_HOST,
	  "packet-socket", AT_ONCE, watch_a, unwatch },
	{ "tcpdump at the receiver", NULL, NULL, TO_B | TO_HOST,
	  "packet-socket", AT_ONCE, watch_b, unwatch },
	{ "tcpdump everywhere", NULL, NULL, TO_B | TO_HOST,
	  "packet-socket", AT_ONCE, watch_any, unwatch },
	{ "tcpdump at the bridge", NULL, NULL, TO_B,
	  "packet-socket", AT_ONCE, watch_bridge, unwatch },
	{ "dirty log", NULL, NULL, TO_B, "migration", AT_ONCE, log_on, log_off },
	{ "sender switched off", NULL, NULL, TO_B, NULL, AT_ONCE | UNNAMED,
	  sender_off, sender_on },
	{ "receiver switched off", NULL, NULL, TO_B, "receiver", AT_ONCE,
	  receiver_off, receiver_on },
	{ "direct 0", NULL, NULL, TO_B, NULL, AT_ONCE | UNNAMED,
	  direct_off, direct_again },
	{ "enable 0", NULL, NULL, TO_B, NULL, AT_ONCE | UNNAMED,
	  all_off, all_on },
};

static void watchers(void)
{
	start_bridge();
	lab_unwatch(&lab);
	try_all(watch_changes, VP_ARRAY_SIZE(watch_changes));
	finish();
}

/* ---- macvtaps in bridge mode ---- */

static const struct change macvtap_changes[] = {
	{ "receiver's mode", "ip link set %b type macvtap mode private",
	  "ip link set %b type macvtap mode bridge", NOBODY, "macvtap-mode" },
	{ "sender's mode", "ip link set %a type macvtap mode private",
	  "ip link set %a type macvtap mode bridge", NOBODY, "macvtap-mode" },
	{ "macvlan in source mode",
	  "ip link add msx link %r type macvlan mode source; ip link set msx up",
	  "ip link del msx", TO_B, "macvtap-source" },
	{ "VLAN device above the receiver's",
	  "ip link add link %b name vlx type vlan id 5", "ip link del vlx",
	  TO_B, "upper-dev" },
	{ "VLAN device above the lower one",
	  "ip link add link %r name vlx type vlan id 5", "ip link del vlx",
	  TO_B, NULL, STAYS },
	{ "tc ingress of the lower one",
	  "tc qdisc add dev %r clsact; tc filter add dev %r ingress matchall action drop",
	  "tc qdisc del dev %r clsact", NOBODY, "tc-ingress" },
	{ "tc egress of the sender's",
	  "tc qdisc add dev %a clsact; tc filter add dev %a egress matchall action drop",
	  "tc qdisc del dev %a clsact", NOBODY, "tc-egress" },
	{ "tc egress of the lower one",
	  "tc qdisc add dev %r clsact; tc filter add dev %r egress matchall action drop",
	  "tc qdisc del dev %r clsact", TO_B, NULL, STAYS },
	{ "qdisc of the sender's", "tc qdisc add dev %a root pfifo",
	  "tc qdisc del dev %a root", TO_B, "qdisc" },
	{ "send buffer of the sender's", NULL, NULL, TO_B, "tap-sndbuf", 0,
	  sndbuf_on, sndbuf_off },
	{ "ring of the receiver's without room", "ip link set %b txqueuelen 0",
	  "ip link set %b txqueuelen 500", NOBODY, "tap-ring" },
	{ "nftables, ingress of the lower one",
	  NFT("netdev", "ingress device %r", "0"), "nft delete table netdev x",
	  NOBODY, "nft-ingress", FREE },
	{ "lower one down", "ip link set %r down",
	  "ip link set %r up; ip link set %a up; ip link set %b up", NOBODY,
	  NULL, UNNAMED },
	{ "tcpdump at the lower one", NULL, NULL, TO_B | TO_HOST,
	  "packet-socket", AT_ONCE, watch_bridge, unwatch },
	{ "tcpdump at the receiver", NULL, NULL, TO_B | TO_HOST,
	  "packet-socket", AT_ONCE, watch_b, unwatch },
};

static void macvtap(void)
{
	struct vp_cfg cfg[2];
	unsigned int i;

	ktap_assert(!vp_cmd("ip link add dmx type dummy && ip link set dmx up"),
		    "dummy interface");
	for (i = 0; i < 2; i++) {
		vp_cfg_default(&cfg[i]);
		cfg[i].bridge = NULL;
		cfg[i].macvtap = "dmx";
	}
	start(cfg, 2);
	try_all(macvtap_changes, VP_ARRAY_SIZE(macvtap_changes));
	finish();
}

/* ---- while somebody else holds RTNL ---- */

/*
 * The module cannot ask again.  A change that needs RTNL itself, or a shell, is
 * made just before; one that takes no time after somebody has taken it.
 */
static void try_held(const struct change *c)
{
	u64 since;

	lenient = c->flags & TAGGED;
	wait_fast(c->name);
	if (c->flags & FREE && !c->on) {
		rtnl_hold();
		apply(c);
		since = vp_tick_ms();
	} else {
		apply(c);
		since = vp_tick_ms();
		rtnl_hold();
	}
	watch(c, since, true);
	rtnl_release();
	undo(c);
	wait_fast(c->name);
	lenient = false;
}

static void hold_changes(const struct change *c, unsigned int n)
{
	/* A few of them tell enough when there is little time. */
	unsigned int step = is_brief() ? 20 : ktap_quick() ? 5 : 1, i;

	for (i = 0; i < n; i += step)
		if (!(c[i].flags & (STAYS | NOW)))
			try_held(&c[i]);
}

#define HOLD_CHANGES(c)	hold_changes(c, VP_ARRAY_SIZE(c))

static void rtnl(void)
{
	unsigned int ms = ktap_quick() ? 300 : 1500;
	static const struct change nothing = { "RTNL is held", .got = TO_B };
	u64 since, fast;

	start_bridge();
	ctl_write("revalidate_ms", "60");
	wait_fast(nothing.name);
	rtnl_hold();
	since = vp_tick_ms();
	watch(&nothing, since, true);
	fast = fast_packets();
	while (vp_tick_ms() - since < ms) {
		shoot_at(nothing.name, TO_B);
		ktap_assert(fast_packets() == fast,
			    "RTNL is held: a frame took the direct path");
		vp_sleep_ms(5);
	}
	rtnl_release();
	wait_fast(nothing.name);
	HOLD_CHANGES(filter_changes);
	HOLD_CHANGES(port_changes);
	HOLD_CHANGES(tap_changes);
	HOLD_CHANGES(fdb_changes);
	HOLD_CHANGES(vlan_changes);
	finish();
}

/* ---- C3: the bridge does not forget who sends by the direct path ---- */

static void ageing(void)
{
	unsigned int secs = 1 + (vp_slowness() > 2);
	u64 begin, before, slow;
	char cmd[64];

	start_bridge();
	snprintf(cmd, sizeof(cmd), "ip link set %%r type bridge ageing_time %u",
		 secs * 100);
	script(cmd);
	script("bridge fdb replace %B dev %b master static");
	wait_fast("ageing");
	slow = ctl_ep_num(lab.ep[A], "tx_slow_packets");
	begin = vp_tick_ms();
	before = begin;
	while (vp_tick_ms() - begin < 1500 * secs) {
		u64 now = vp_tick_ms();

		shoot_at("ageing", TO_B);
		if (!vp_bridge_knows(joint, lab.p[A].mac)) {
			/* Who does not send, for this long, is forgotten. */
			ktap_assert(vp_tick_ms() - before > 250 * secs,
				    "%llu ms later, the bridge has forgotten the sender",
				    now - begin);
			begin = now;
		}
		before = now;
		vp_sleep_ms(5);
	}
	slow = ctl_ep_num(lab.ep[A], "tx_slow_packets") - slow;
	ktap_msg("%llu of the frames by the bridge", slow);
	ktap_assert(slow, "the bridge has seen no frame");
	finish();
}

static const struct ktap_case cases[] = {
	{ "C2_fdb", fdb },
	{ "C2_vlan", vlan, .slow = true },
	{ "C2_ports", ports },
	{ "C2_links", links, .slow = true },
	{ "C2_filters", filters },
	{ "C2_taps", taps, .slow = true },
	{ "C2_C3_watchers", watchers },
	{ "C2_macvtap", macvtap, .slow = true },
	{ "C2_rtnl", rtnl, 120 },
	{ "C3_ageing", ageing, .slow = true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
