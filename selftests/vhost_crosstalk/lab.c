// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/userfaultfd.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctl.h"
#include "direct.h"
#include "ktap.h"
#include "lab.h"

#define SENT_MS		5000
#define HOOK_MS		5000
#define PROBE_MS	300	/* after that, look for devices without probes */
#define LEARN_MS	5	/* for those who may never hear of it */
#define LEARN_SURE_MS	1000	/* for those who did before */
#define SOCKET_ROOM	(1 << 20)

static void note(struct lab *l, unsigned int who, const u8 *frame, u32 len,
		 const struct virtio_net_hdr_v1 *h)
{
	struct lab_seen *s = &l->seen[l->nseen];

	if (l->nseen == LAB_SEEN)
		ktap_fail("more than %u frames were seen", LAB_SEEN);
	*s = (struct lab_seen) { .who = who, .len = len };
	if (h)
		s->h = *h;
	s->data = malloc(len + 1);
	memcpy(s->data, frame, len);
	l->nseen++;
}

static void on_frame(struct vp_peer *p, unsigned int q, const u8 *frame,
		     u32 len, const struct virtio_net_hdr_v1 *h, void *arg)
{
	(void)q;
	note(arg, p->index, frame, len, h);
}

void lab_poll(struct lab *l)
{
	static u8 buf[VP_FRAME_MAX + 1];
	unsigned int i;
	ssize_t len;

	for (i = 0; i < l->n; i++) {
		vp_rx(&l->p[i], 0, UINT_MAX, on_frame, l);
		vp_ring_kick(&l->p[i].qp[0].rx);
		vp_tx_reclaim(&l->p[i], 0);
	}
	for (i = 0; i < l->nsock; i++) {
		while ((len = recv(l->sock[i], buf, sizeof(buf),
				   MSG_DONTWAIT)) >= 0)
			note(l, LAB_HOST, buf, len, NULL);
	}
}

void lab_forget(struct lab *l)
{
	while (l->nseen)
		free(l->seen[--l->nseen].data);
}

void lab_send(struct lab *l, unsigned int from,
	      const struct virtio_net_hdr_v1 *h, const void *frame, u32 len)
{
	u64 end = vp_now_ms() + SENT_MS * vp_slowness();

	while (vp_tx_raw(&l->p[from], 0, h, frame, len) < 0) {
		lab_kick(l, from);
		lab_poll(l);
		if (vp_now_ms() > end)
			ktap_fail("guest %u: its TX ring stays full", from);
		sched_yield();
	}
}

void lab_kick(struct lab *l, unsigned int from)
{
	vp_ring_kick(&l->p[from].qp[0].tx);
}

void lab_wait_sent(struct lab *l)
{
	u64 end = vp_now_ms() + SENT_MS * vp_slowness();
	unsigned int i;

	for (i = 0; i < l->n; i++) {
		while (lab_poll(l), vp_ring_inflight(&l->p[i].qp[0].tx)) {
			if (vp_now_ms() > end) {
				vp_dump(&l->p[i], "frames are never completed");
				ktap_fail("guest %u: frames are never completed",
					  i);
			}
			sched_yield();
		}
	}
}

void lab_wait_quiet(struct lab *l, unsigned int ms)
{
	u64 last = vp_now_ms();
	unsigned int n = l->nseen;

	while (vp_now_ms() - last < ms) {
		lab_poll(l);
		if (l->nseen != n)
			last = vp_now_ms();
		n = l->nseen;
		sched_yield();
	}
}

bool lab_is_learning(const struct lab_seen *s)
{
	const u8 *type = s->data + 12;

	/* A bridge may have added a tag. */
	if (s->len >= 18 && type[0] == 0x81 && type[1] == 0)
		type += 4;
	return type[0] == 0x88 && type[1] == 0xb6;
}

static unsigned int learned(const struct lab *l)
{
	const struct lab_seen *s;
	unsigned int i, n = 0;

	for (i = 0; i < l->nseen; i++) {
		s = &l->seen[i];
		/* All their other bytes are zero. */
		n += s->who < l->n && lab_is_learning(s) &&
		     s->data[VP_FRAME_MIN - 1] == l->round;
	}
	return n;
}

void lab_learn_anew(struct lab *l)
{
	l->pupils = 0;
}

void lab_learn(struct lab *l)
{
	unsigned int want = l->n * (l->n - 1), n, i;
	struct virtio_net_hdr_v1 h = {};
	u8 frame[VP_FRAME_MIN] = {};
	u64 began;

	memset(frame, 0xff, 6);
	frame[12] = 0x88;
	frame[13] = 0xb6;	/* not what lab_watch() is asked for */
	frame[VP_FRAME_MIN - 1] = ++l->round;
	for (i = 0; i < l->n; i++) {
		memcpy(frame + 6, l->p[i].mac, 6);
		lab_send(l, i, &h, frame, sizeof(frame));
		lab_kick(l, i);
	}
	lab_wait_sent(l);
	began = vp_now_ms();
	while (n = learned(l), n < want &&
	       vp_now_ms() - began < (n < l->pupils ? LEARN_SURE_MS : LEARN_MS) *
				     vp_slowness()) {
		lab_poll(l);
		sched_yield();
	}
	l->pupils = vp_max(l->pupils, n);
}

static void wait_hooked(struct lab *l)
{
	u64 start = vp_now_ms(), waited;
	bool scanned = false;
	unsigned int i;

	for (i = 0; i < l->n; ) {
		if (ctl_find(l->p[i].tap, &l->ep[i], 1) == 1) {
			i++;
			continue;
		}
		waited = vp_now_ms() - start;
		if (waited > HOOK_MS * vp_slowness())
			ktap_fail("%s is not hooked", l->p[i].tap);
		if (!scanned && (access("/sys/kernel/debug/kprobes", F_OK) ||
				 waited > PROBE_MS)) {
			ctl_scan();
			scanned = true;
		} else {
			vp_sleep_ms(2);
		}
	}
	for (i = 0; i < l->n; i++)
		ctl_wait_state(l->ep[i], "hooked", "none");
}

void lab_open(struct lab *l, const struct vp_cfg *cfg, unsigned int n)
{
	unsigned int i;
	int ret;

	memset(l, 0, sizeof(*l));
	l->n = n;
	direct_on();
	if (cfg->bridge)
		vp_bridge_add(cfg->bridge, 0);
	for (i = 0; i < n; i++) {
		ret = vp_open(&l->p[i], &cfg[i], i);
		ret = ret ?: vp_start(&l->p[i]);
		if (ret)
			ktap_fail("guest %u does not start: %s", i,
				  strerror(-ret));
	}
	wait_hooked(l);
	lab_learn(l);
}

void lab_close(struct lab *l)
{
	unsigned int i;
	u64 bad = 0;

	lab_wait_sent(l);
	lab_unwatch(l);
	for (i = 0; i < l->n; i++) {
		bad += vp_bad_used(&l->p[i]) + vp_ring_errors(&l->p[i]);
		vp_close(&l->p[i]);
	}
	lab_forget(l);
	l->n = 0;
	ktap_assert(!bad, "%llu bad used elements or device errors", bad);
}

void lab_watch(struct lab *l, const char *dev, u16 proto)
{
	struct sockaddr_ll sll = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(proto),
		.sll_ifindex = dev ? if_nametoindex(dev) : 0,
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	int room = SOCKET_ROOM;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	ktap_assert(fd >= 0 && l->nsock < LAB_SOCKETS, "socket: %s",
		    strerror(errno));
	ktap_assert(!bind(fd, (struct sockaddr *)&sll, sizeof(sll)),
		    "packet socket on %s: %s", dev ?: "any interface",
		    strerror(errno));
	l->sock[l->nsock++] = fd;
}

void lab_unwatch(struct lab *l)
{
	while (l->nsock)
		close(l->sock[--l->nsock]);
}

void lab_verdict(struct lab *l, unsigned int from, const u8 *dst,
		 unsigned int vlan, char *word, size_t size)
{
	char buf[4096], want[64], got[32], *line;
	const u8 *s = l->p[from].mac;

	snprintf(word, size, "none");
	if (ctl_ep_read(l->ep[from], "verdicts", buf, sizeof(buf)) < 0)
		return;
	snprintf(want, sizeof(want),
		 "%02x:%02x:%02x:%02x:%02x:%02x %02x:%02x:%02x:%02x:%02x:%02x %u ",
		 s[0], s[1], s[2], s[3], s[4], s[5], dst[0], dst[1], dst[2],
		 dst[3], dst[4], dst[5], vlan);
	line = strstr(buf, want);
	if (line && sscanf(line + strlen(want), "%31s", got) == 1)
		snprintf(word, size, "%s", got);
}

/* ---- RTNL ---- */

static struct {
	pthread_t thread;
	int uffd, tap;
	void *page;
} hold;

static void *hold_ioctl(void *arg)
{
	/* Sets no limit, which is what the tap has anyway. */
	if (ioctl(hold.tap, TUNSETSNDBUF, hold.page))
		ktap_msg("TUNSETSNDBUF: %s", strerror(errno));
	return arg;
}

void rtnl_hold(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct vp_tap_cfg tc = {};
	struct uffd_msg msg;
	char name[16];

	if (!hold.tap) {
		snprintf(name, sizeof(name), "v%dhold", getpid());
		hold.tap = vp_tap_open(name, &tc);
		ktap_assert(hold.tap > 0, "tap: %s", strerror(-hold.tap));
	}
	hold.uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	ktap_assert(hold.uffd >= 0, "userfaultfd: %s", strerror(errno));
	hold.page = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (u64)hold.page;
	reg.range.len = getpagesize();
	ktap_assert(!ioctl(hold.uffd, UFFDIO_API, &api) &&
		    !ioctl(hold.uffd, UFFDIO_REGISTER, &reg),
		    "userfaultfd: %s", strerror(errno));
	pthread_create(&hold.thread, NULL, hold_ioctl, NULL);
	/* It has RTNL when it asks for the page. */
	ktap_assert(read(hold.uffd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_PAGEFAULT, "userfaultfd: %s",
		    strerror(errno));
}

void rtnl_release(void)
{
	static int value[1024];
	struct uffdio_copy copy = {
		.dst = (u64)hold.page, .src = (u64)value,
		.len = getpagesize(),
	};

	value[0] = INT_MAX;
	ktap_assert(!ioctl(hold.uffd, UFFDIO_COPY, &copy), "userfaultfd: %s",
		    strerror(errno));
	pthread_join(hold.thread, NULL);
	close(hold.uffd);
	munmap(hold.page, getpagesize());
}
