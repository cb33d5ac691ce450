// SPDX-License-Identifier: GPL-2.0
/* One guest: vhost-net devices, their set-up as QEMU does it, frames. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/if_tun.h>

#include "ktap.h"
#include "vpeer.h"

#define RX_BATCH	64

/* Not in the headers of Debian 12. */
#define SET_FORK_FROM_OWNER	_IOW(VHOST_VIRTIO, 0x84, __u8)

void vp_cfg_default(struct vp_cfg *c)
{
	*c = (struct vp_cfg) {
		.features = VP_F_DEFAULT,
		.rx_num = 256,
		.tx_num = 256,
		.queues = 1,
		.mem = VP_MEM_ANON,
		.regions = 1,
		.rx_layout = VP_LAYOUT_ONE,
		.tx_layout = VP_LAYOUT_ONE,
		.rx_chain = 1,
		.tx_chain = 1,
		.rx_buf = 2048,
		.tx_buf = 2048,
		.offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
		.bridge = "br0",
	};
}

void vp_tap_name(char *name, unsigned int peer)
{
	/* Unique on the machine: all peers of a case are one process group. */
	snprintf(name, 16, "v%dn%u", getpgrp(), peer);
}

static int vhost(int fd, unsigned long req, const void *arg, const char *what)
{
	if (!ioctl(fd, req, arg))
		return 0;
	ktap_msg("%s: %s", what, strerror(errno));
	return -errno;
}

#define vhost_do(fd, req, arg)	vhost(fd, req, arg, #req)

static struct vp_ring *ring_of(struct vp_peer *p, unsigned int q,
			       unsigned int vq)
{
	return vq == VP_VQ_RX ? &p->qp[q].rx : &p->qp[q].tx;
}

static void ring_cfg(const struct vp_peer *p, unsigned int vq,
		     struct vp_ring_cfg *rc)
{
	const struct vp_cfg *c = &p->cfg;
	bool rx = vq == VP_VQ_RX;

	*rc = (struct vp_ring_cfg) {
		.num = rx ? c->rx_num : c->tx_num,
		.buf_size = rx ? c->rx_buf : c->tx_buf,
		.chain = rx ? c->rx_chain : c->tx_chain,
		.event_idx = c->features & VP_F_EVENT,
		.is_rx = rx,
		.hlen = p->hlen,
	};
}

static unsigned int header_len(u64 features)
{
	return features & (VP_F_MODERN | VP_F_MRG) ? 12 : 10;
}

static int init_rings(struct vp_peer *p)
{
	struct vp_ring_cfg rc;
	unsigned int q, vq;
	int ret;

	vp_mem_reset(&p->mem);
	for (q = 0; q < p->cfg.queues; q++) {
		for (vq = 0; vq < 2; vq++) {
			struct vp_ring *r = ring_of(p, q, vq);

			vp_ring_free(r);
			ring_cfg(p, vq, &rc);
			ret = vp_ring_init(r, &p->mem, &rc, &p->rnd);
			if (ret)
				return ret;
		}
	}
	return 0;
}

static int open_memory(struct vp_peer *p)
{
	const struct vp_cfg *c = &p->cfg;
	unsigned int n = vp_max(c->regions, 1U);
	struct vp_ring_cfg rc;
	u64 need = 65536;
	int ret;

	ring_cfg(p, VP_VQ_RX, &rc);
	need += vp_ring_bytes(&rc) * c->queues;
	ring_cfg(p, VP_VQ_TX, &rc);
	need += vp_ring_bytes(&rc) * c->queues;
	if (c->adjacent)
		need = need / n + 4096;
	ret = vp_mem_init(&p->mem, c->mem, n, need, c->adjacent);
	if (!ret && c->scatter)
		vp_mem_scatter(&p->mem);
	return ret;
}

static int open_backend(const struct vp_peer *p, const struct vp_tap_cfg *tc)
{
	if (p->cfg.packet_dev)
		return vp_packet_open(p->cfg.packet_dev);
	if (p->cfg.macvtap)
		return vp_macvtap_open(p->tap, p->cfg.macvtap, p->mac, tc);
	return vp_tap_open(p->tap, tc);
}

/* Everything that needs no owner yet: memory, rings, tap. */
int vp_open(struct vp_peer *p, const struct vp_cfg *cfg, unsigned int index)
{
	struct vp_tap_cfg tc;
	unsigned int q;
	int ret;

	memset(p, 0, sizeof(*p));
	p->cfg = *cfg;
	p->index = index;
	p->hlen = header_len(cfg->features);
	vp_mac(p->mac, index);
	vp_tap_name(p->tap, index);
	vp_rand_init(&p->rnd, index);
	for (q = 0; q < VP_MAX_QP; q++) {
		p->qp[q].vhost = -1;
		p->qp[q].tap = -1;
	}
	tc = (struct vp_tap_cfg) {
		.vnet_hdr = !(cfg->features & VP_F_VHOST_HDR),
		.hdr_size = p->hlen,
		.offload = cfg->offload,
		.sndbuf = cfg->sndbuf,
		.multi_queue = cfg->queues > 1,
	};
	/*
	 * First of all: who still has the tap is the device that was closed
	 * before, because a scan looks at it, and that can write to the memory
	 * it knows, at the same addresses.
	 */
	for (q = 0; q < cfg->queues; q++) {
		p->qp[q].tap = open_backend(p, &tc);
		if (p->qp[q].tap < 0) {
			ktap_msg("tap %s: %s", p->tap, strerror(-p->qp[q].tap));
			return p->qp[q].tap;
		}
	}
	ret = open_memory(p);
	if (ret)
		return ret;
	p->gather = malloc(VP_FRAME_MAX + 1);
	ret = init_rings(p);
	if (ret)
		return ret;

	for (q = 0; q < cfg->queues; q++) {
		p->qp[q].vhost = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
		if (p->qp[q].vhost < 0) {
			ktap_msg("/dev/vhost-net: %s", strerror(errno));
			return -errno;
		}
	}
	if (!cfg->packet_dev) {
		vp_link_up(p->tap, cfg->mtu);
		if (cfg->bridge && !cfg->macvtap)
			vp_bridge_port(cfg->bridge, p->tap);
	}
	return vp_setup(p);
}

/* The same addresses again; allowed at any time. */
int vp_set_addr(struct vp_peer *p, unsigned int q, unsigned int vq)
{
	struct vp_ring *r = ring_of(p, q, vq);
	struct vhost_vring_addr addr = {
		.index = vq,
		.desc_user_addr = (u64)r->desc,
		.avail_user_addr = (u64)r->avail,
		.used_user_addr = (u64)r->used,
	};

	if (p->cfg.features & VP_F_IOMMU) {
		addr.desc_user_addr = r->desc_gpa;
		addr.avail_user_addr = r->avail_gpa;
		addr.used_user_addr = r->used_gpa;
	}
	if (p->cfg.features & VP_F_LOG) {
		addr.flags = 1 << VHOST_VRING_F_LOG;
		addr.log_guest_addr = r->used_gpa;
	}
	return vhost_do(p->qp[q].vhost, VHOST_SET_VRING_ADDR, &addr);
}

static int setup_vq(struct vp_peer *p, unsigned int q, unsigned int vq)
{
	struct vp_ring *r = ring_of(p, q, vq);
	struct vhost_vring_state num = { vq, r->num };
	struct vhost_vring_state base = { vq, READ_ONCE(r->used->idx) };
	struct vhost_vring_state busy = { vq, p->cfg.busyloop_us };
	struct vhost_vring_file kick = { vq, r->kick };
	struct vhost_vring_file call = { vq, r->call };
	struct vhost_vring_file err = { vq, r->err };
	int fd = p->qp[q].vhost, ret;

	ret = vhost_do(fd, VHOST_SET_VRING_NUM, &num);
	ret = ret ?: vhost_do(fd, VHOST_SET_VRING_BASE, &base);
	ret = ret ?: vp_set_addr(p, q, vq);
	ret = ret ?: vhost_do(fd, VHOST_SET_VRING_KICK, &kick);
	ret = ret ?: vhost_do(fd, VHOST_SET_VRING_CALL, &call);
	ret = ret ?: vhost_do(fd, VHOST_SET_VRING_ERR, &err);
	if (p->cfg.busyloop_us)
		ret = ret ?: vhost_do(fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
				      &busy);
	return ret;
}

/*
 * Tell the device about memory; with @extra, about one region more, as after
 * a hotplug.
 */
int vp_set_mem(struct vp_peer *p, bool extra)
{
	struct vhost_memory *t = vp_mem_table(&p->mem);
	unsigned int q, n = t->nregions;
	int ret = 0;

	p->extra_mem = extra;
	if (extra) {
		t = realloc(t, sizeof(*t) + (n + 1) * sizeof(t->regions[0]));
		t->regions[n] = (struct vhost_memory_region) {
			.guest_phys_addr = vp_mem_end(&p->mem) + (1ULL << 32),
			.memory_size = 4096,
			.userspace_addr = (u64)p->mem.region[0].hva,
		};
		t->nregions = n + 1;
	}
	for (q = 0; !ret && q < p->cfg.queues; q++)
		ret = vhost_do(p->qp[q].vhost, VHOST_SET_MEM_TABLE, t);
	free(t);
	return ret;
}

int vp_set_features(struct vp_peer *p, u64 features)
{
	unsigned int q;
	int ret = 0;

	for (q = 0; !ret && q < p->cfg.queues; q++)
		ret = vhost_do(p->qp[q].vhost, VHOST_SET_FEATURES, &features);
	if (!ret)
		p->cfg.features = features;
	return ret;
}

/* A virtual IOMMU that maps everything: bus addresses are guest addresses. */
static int map_iommu(struct vp_peer *p, unsigned int q)
{
	unsigned int i;

	for (i = 0; i < p->mem.n; i++) {
		struct vhost_msg msg = {
			.type = VHOST_IOTLB_MSG,
			.iotlb = {
				.iova = p->mem.region[i].gpa,
				.size = p->mem.region[i].size,
				.uaddr = (u64)p->mem.region[i].hva,
				.perm = VHOST_ACCESS_RW,
				.type = VHOST_IOTLB_UPDATE,
			},
		};

		if (write(p->qp[q].vhost, &msg, sizeof(msg)) != sizeof(msg)) {
			ktap_msg("IOTLB update: %s", strerror(errno));
			return -EIO;
		}
	}
	return 0;
}

/* From a fresh (or reset) device to one that only lacks its backends. */
int vp_setup(struct vp_peer *p)
{
	unsigned int q;
	int ret;

	for (q = 0; q < p->cfg.queues; q++) {
		u8 no = 0;

		/* Before 6.4 it is a kernel thread anyway. */
		if (p->cfg.kthread_worker &&
		    ioctl(p->qp[q].vhost, SET_FORK_FROM_OWNER, &no) &&
		    errno != ENOTTY && errno != EPERM)
			return -errno;
		ret = vhost_do(p->qp[q].vhost, VHOST_SET_OWNER, NULL);
		if (ret)
			return ret;
	}
	ret = vp_set_features(p, p->cfg.features);
	ret = ret ?: vp_set_mem(p, p->extra_mem);
	for (q = 0; !ret && q < p->cfg.queues; q++) {
		ret = setup_vq(p, q, VP_VQ_RX);
		ret = ret ?: setup_vq(p, q, VP_VQ_TX);
		if (p->cfg.features & VP_F_IOMMU)
			ret = ret ?: map_iommu(p, q);
	}
	return ret;
}

int vp_set_backend(struct vp_peer *p, unsigned int q, unsigned int vq, int fd)
{
	struct vhost_vring_file backend = { vq, fd };

	return vhost_do(p->qp[q].vhost, VHOST_NET_SET_BACKEND, &backend);
}

int vp_start(struct vp_peer *p)
{
	unsigned int q;
	int ret = 0;

	for (q = 0; q < p->cfg.queues; q++) {
		vp_rx_fill(p, q);
		ret = vp_set_backend(p, q, VP_VQ_RX, p->qp[q].tap);
		ret = ret ?: vp_set_backend(p, q, VP_VQ_TX, p->qp[q].tap);
		if (ret)
			return ret;
		/* As QEMU does, for what was posted while it was stopped. */
		vp_ring_kick_anyway(&p->qp[q].rx);
		vp_ring_kick_anyway(&p->qp[q].tx);
	}
	p->running = true;
	return 0;
}

/*
 * Stop, and check that the device consumed exactly what it completed.
 * Returns 1 if it did not.
 */
int vp_stop(struct vp_peer *p)
{
	unsigned int q, vq;
	int ret, bad = 0;

	for (q = 0; q < p->cfg.queues; q++) {
		for (vq = 0; vq < 2; vq++) {
			struct vp_ring *r = ring_of(p, q, vq);
			struct vhost_vring_state base = { vq, 0 };

			ret = vp_set_backend(p, q, vq, -1);
			ret = ret ?: vhost_do(p->qp[q].vhost,
					      VHOST_GET_VRING_BASE, &base);
			if (ret)
				return ret;
			if ((u16)base.num == READ_ONCE(r->used->idx))
				continue;
			ktap_msg("%s: stopped %s ring: base %u, used index %u",
				 p->tap, vq ? "TX" : "RX", base.num,
				 READ_ONCE(r->used->idx));
			bad = 1;
		}
	}
	p->running = false;
	return bad;
}

/* Other addresses for the rings of a stopped device. */
int vp_move_rings(struct vp_peer *p)
{
	unsigned int q, vq;
	int ret = 0;

	for (q = 0; !ret && q < p->cfg.queues; q++) {
		for (vq = 0; !ret && vq < 2; vq++) {
			struct vp_ring *r = ring_of(p, q, vq);
			u16 base = READ_ONCE(r->used->idx);

			if (base != r->used_idx)
				return -EBUSY;	/* take what came first */
			ret = vp_ring_place(r, &p->mem);
			if (ret)
				return ret;
			vp_ring_restart(r, base);
			ret = setup_vq(p, q, vq);
		}
	}
	return ret;
}

/* RESET_OWNER under way: the device forgets all; the rings go on. */
int vp_reset_owner(struct vp_peer *p)
{
	unsigned int q;
	int ret = 0;

	for (q = 0; !ret && q < p->cfg.queues; q++)
		ret = vhost_do(p->qp[q].vhost, VHOST_RESET_OWNER, NULL);
	p->running = false;
	return ret ?: vp_setup(p);
}

/* What a guest's reboot into another driver does. */
int vp_reconfigure(struct vp_peer *p, u64 features)
{
	unsigned int q;
	int ret;

	p->cfg.features = features;
	p->hlen = header_len(features);
	ret = init_rings(p);
	ret = ret ?: vp_set_features(p, features);
	for (q = 0; !ret && q < p->cfg.queues; q++) {
		int hdr = p->hlen;

		if (ioctl(p->qp[q].tap, TUNSETVNETHDRSZ, &hdr))
			return -errno;
		ret = setup_vq(p, q, VP_VQ_RX);
		ret = ret ?: setup_vq(p, q, VP_VQ_TX);
	}
	return ret;
}

void vp_close(struct vp_peer *p)
{
	unsigned int q;

	for (q = 0; q < p->cfg.queues; q++) {
		if (p->qp[q].vhost >= 0)
			close(p->qp[q].vhost);
		if (p->qp[q].tap >= 0)
			close(p->qp[q].tap);
		vp_ring_free(&p->qp[q].rx);
		vp_ring_free(&p->qp[q].tx);
	}
	if (p->log)
		munmap(p->log, p->log_size);
	free(p->gather);
	vp_mem_free(&p->mem);
	memset(p, 0, sizeof(*p));
}

/* Dirty logging as at the start and the end of a live migration. */
int vp_log_on(struct vp_peer *p)
{
	unsigned int q;
	u64 base;
	int ret;

	if (!p->log) {
		p->log_size = vp_mem_end(&p->mem) / 4096 / 8 + 4096;
		p->log = mmap(NULL, p->log_size, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (p->log == MAP_FAILED) {
			p->log = NULL;
			return -ENOMEM;
		}
	}
	memset(p->log, 0, p->log_size);
	base = (u64)p->log;
	for (q = 0; q < p->cfg.queues; q++) {
		ret = vhost_do(p->qp[q].vhost, VHOST_SET_LOG_BASE, &base);
		if (ret)
			return ret;
	}
	ret = vp_set_features(p, p->cfg.features | VP_F_LOG);
	for (q = 0; !ret && q < p->cfg.queues; q++) {
		ret = vp_set_addr(p, q, VP_VQ_RX);
		ret = ret ?: vp_set_addr(p, q, VP_VQ_TX);
	}
	return ret;
}

int vp_log_off(struct vp_peer *p)
{
	unsigned int q;
	int ret;

	ret = vp_set_features(p, p->cfg.features & ~VP_F_LOG);
	for (q = 0; !ret && q < p->cfg.queues; q++) {
		ret = vp_set_addr(p, q, VP_VQ_RX);
		ret = ret ?: vp_set_addr(p, q, VP_VQ_TX);
	}
	return ret;
}

static bool want_indirect(struct vp_peer *p)
{
	return p->cfg.features & VP_F_INDIRECT && p->cfg.indirect &&
	       vp_rand_in(&p->rnd, 0, 99) < p->cfg.indirect;
}

static void rx_post(struct vp_peer *p, unsigned int q, struct vp_slot *s)
{
	struct vp_ring *r = &p->qp[q].rx;
	struct vp_seg seg[VP_MAX_CHAIN];
	unsigned int n;

	n = vp_ring_split(r, s, p->cfg.rx_buf, p->cfg.rx_layout, r->chain,
			  &p->rnd, seg);
	vp_ring_post(r, s, seg, n, want_indirect(p));
}

/* Post all free RX buffers. */
void vp_rx_fill(struct vp_peer *p, unsigned int q)
{
	struct vp_slot *s;

	while ((s = vp_ring_get_slot(&p->qp[q].rx)))
		rx_post(p, q, s);
}

static void rx_again(struct vp_peer *p, unsigned int q, struct vp_slot *s)
{
	struct vp_ring *r = &p->qp[q].rx;

	if (p->cfg.rx_layout >= VP_LAYOUT_MANY ||
	    (p->cfg.indirect && p->cfg.indirect < 100))
		rx_post(p, q, s);
	else
		vp_ring_repost(r, s);
}

/* Append a used buffer of @len bytes to the gathered frame. */
static u32 gather(struct vp_peer *p, u32 at, const struct vp_slot *s, u32 len,
		  u32 skip)
{
	u32 head = vp_min(p->hlen, len);

	if (!skip && at + len <= VP_FRAME_MAX) {
		memcpy(p->gather + at, s->hdr, head);
		at += head;
	}
	if (len > head && at + len - head <= VP_FRAME_MAX) {
		memcpy(p->gather + at, s->buf + VP_HDR_ROOM, len - head);
		at += len - head;
	}
	return at;
}

/*
 * Take up to @budget frames that arrived and hand them to @fn; post their
 * buffers again.  Returns how many there were.
 */
unsigned int vp_rx(struct vp_peer *p, unsigned int q, unsigned int budget,
		   vp_rx_fn *fn, void *arg)
{
	bool merge = p->cfg.features & VP_F_MRG;
	struct vp_ring *r = &p->qp[q].rx;
	struct vp_slot *s, *part[RX_BATCH];
	unsigned int done = 0, i, n;
	u32 len;

	while (done < budget && (s = vp_ring_pop(r, &len))) {
		struct virtio_net_hdr_v1 h = {};
		const u8 *frame = s->buf + VP_HDR_ROOM;
		u32 total;

		if (len < p->hlen) {
			ktap_msg("%s: %u bytes are no header", p->tap, len);
			r->bad_used++;
			rx_again(p, q, s);
			continue;
		}
		memcpy(&h, s->hdr, p->hlen);
		n = merge ? h.num_buffers : 1;
		if (!n || n > r->nslots) {
			ktap_msg("%s: num_buffers %u", p->tap, n);
			r->bad_used++;
			n = 1;
		}
		total = len - p->hlen;
		part[0] = s;
		if (n > 1) {
			total = gather(p, 0, s, len, p->hlen);
			frame = p->gather;
		}
		for (i = 1; i < n; i++) {
			s = vp_ring_pop(r, &len);
			if (!s) {
				ktap_msg("%s: %u buffers of %u", p->tap, i, n);
				r->bad_used++;
				break;
			}
			total = gather(p, total, s, len, 0);
			if (i < RX_BATCH)
				part[i] = s;
			else
				rx_again(p, q, s);
		}
		fn(p, q, frame, total, &h, arg);
		for (n = vp_min(i, (unsigned int)RX_BATCH), i = 0; i < n; i++)
			rx_again(p, q, part[i]);
		done++;
	}
	return done;
}

static void tx_post(struct vp_peer *p, unsigned int q, struct vp_slot *s,
		    const struct virtio_net_hdr_v1 *h, u32 len)
{
	struct vp_ring *r = &p->qp[q].tx;
	struct vp_seg seg[VP_MAX_CHAIN];
	unsigned int n;

	n = vp_ring_split(r, s, len, p->cfg.tx_layout,
			  vp_min(r->chain, (unsigned int)VP_MAX_CHAIN),
			  &p->rnd, seg);
	memcpy(s->hdr, h, p->hlen);
	vp_ring_post(r, s, seg, n, want_indirect(p));
}

/* Queue a frame; -EAGAIN when the ring is full.  No kick. */
int vp_tx(struct vp_peer *p, unsigned int q, enum vp_kind kind,
	  struct vp_flow_id id, u64 seq, u32 len, u16 vlan)
{
	struct vp_slot *s = vp_ring_get_slot(&p->qp[q].tx);
	struct virtio_net_hdr_v1 h;
	u8 dmac[6];

	if (!s)
		return -EAGAIN;
	vp_mac(dmac, id.dst);
	len = vp_frame_build(s->buf + VP_HDR_ROOM, &h, kind, id, seq,
			     vp_min(len, p->cfg.tx_buf), dmac, vlan);
	tx_post(p, q, s, &h, len);
	return len;
}

/* The same with a frame and a header that the caller has made. */
int vp_tx_raw(struct vp_peer *p, unsigned int q,
	      const struct virtio_net_hdr_v1 *h, const void *frame, u32 len)
{
	struct vp_slot *s = vp_ring_get_slot(&p->qp[q].tx);

	if (!s)
		return -EAGAIN;
	memcpy(s->buf + VP_HDR_ROOM, frame, len);
	tx_post(p, q, s, h, len);
	return len;
}

/* Take back the buffers of frames that were sent. */
unsigned int vp_tx_reclaim(struct vp_peer *p, unsigned int q)
{
	struct vp_ring *r = &p->qp[q].tx;
	struct vp_slot *s;
	unsigned int n = 0;
	u32 len;

	while ((s = vp_ring_pop(r, &len))) {
		vp_ring_put_slot(r, s);
		n++;
	}
	return n;
}

u64 vp_bad_used(const struct vp_peer *p)
{
	unsigned int q;
	u64 n = 0;

	for (q = 0; q < p->cfg.queues; q++)
		n += p->qp[q].rx.bad_used + p->qp[q].tx.bad_used;
	return n;
}

u64 vp_ring_errors(struct vp_peer *p)
{
	unsigned int q, vq;
	u64 v, n = 0;

	for (q = 0; q < p->cfg.queues; q++)
		for (vq = 0; vq < 2; vq++)
			if (read(ring_of(p, q, vq)->err, &v, sizeof(v)) > 0)
				n += v;
	return n;
}

/* The state of all rings, for a stall. */
void vp_dump(struct vp_peer *p, const char *why)
{
	unsigned int q, vq;

	for (q = 0; q < p->cfg.queues; q++) {
		for (vq = 0; vq < 2; vq++) {
			struct vp_ring *r = ring_of(p, q, vq);

			ktap_msg("%s %s.%u: %s: avail %u kicked %u used %u seen %u flags %x/%x events %u/%u kicks %llu calls %llu, device has %s",
				 p->tap, vq ? "TX" : "RX", q, why, r->avail_idx,
				 r->kick_idx, r->used->idx, r->used_idx,
				 r->avail->flags, r->used->flags,
				 r->avail->ring[r->num],
				 *(u16 *)&r->used->ring[r->num], r->kicks,
				 r->calls, p->running ? "a backend" : "none");
		}
	}
}
