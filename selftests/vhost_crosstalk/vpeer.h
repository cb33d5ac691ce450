/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vpeer: a user-space virtio-net "guest" on /dev/vhost-net.
 *
 * A peer has memory of its own (vpeer_mem.c), one pair of split rings a queue
 * pair (vpeer_ring.c) on a vhost-net device with a tap (vpeer_dev.c), and
 * sends and checks self-describing frames (vpeer_frame.c).  vpeer_net.c makes
 * taps and bridges; vpeer_run.c runs peers as processes that exchange
 * flow-controlled traffic and account for every frame and byte.
 *
 * The host must be little-endian: ring fields are used as they are.
 */
#ifndef VPEER_H
#define VPEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <linux/types.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;

#define VP_ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define VP_BIT(n)		(1ULL << (n))
#define READ_ONCE(x)		(*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v)	(*(volatile __typeof__(x) *)&(x) = (v))

#define vp_min(a, b)		((a) < (b) ? (a) : (b))
#define vp_max(a, b)		((a) > (b) ? (a) : (b))

/* ---- random numbers: reproducible, from CROSSTALK_SEED ---- */

struct vp_rand {
	u64 s;
};

static inline u32 vp_rand(struct vp_rand *r)
{
	r->s ^= r->s << 13;
	r->s ^= r->s >> 7;
	r->s ^= r->s << 17;
	return (r->s * 0x2545f4914f6cdd1dULL) >> 32;
}

static inline u32 vp_rand_in(struct vp_rand *r, u32 lo, u32 hi)
{
	return lo + (u32)(((u64)vp_rand(r) * (hi - lo + 1)) >> 32);
}

void vp_rand_init(struct vp_rand *r, u64 salt);
u64 vp_now_ms(void);
u64 vp_now_ns(void);
u64 vp_tick_ms(void);		/* as jiffies go */
void vp_sleep_ms(unsigned int ms);
unsigned int vp_slowness(void);	/* factor on time limits */

/* ---- memory (vpeer_mem.c) ---- */

enum vp_mem_kind {
	VP_MEM_ANON,
	VP_MEM_THP,
	VP_MEM_MEMFD,
	VP_MEM_HUGETLB,
	VP_MEM_FILE,
	VP_MEM_GUESTRAM,
	VP_MEM_KINDS,
};

extern const char * const vp_mem_kind_name[VP_MEM_KINDS];

#define VP_MAX_REGIONS	16
#define VP_NR_HUGEPAGES	\
	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

struct vp_region {
	u64 gpa, size;
	u8 *hva;
};

struct vp_mem {
	enum vp_mem_kind kind;
	unsigned int n;
	struct vp_region region[VP_MAX_REGIONS];
	void *map;			/* the whole reservation */
	size_t map_len;
	unsigned int cur;		/* allocation: region and offset */
	u64 off;
	bool adjacent;			/* allocations may cross regions */
};

/*
 * @n regions of @size bytes.  @adjacent: one behind the other in guest
 * physical memory, so that buffers cross region boundaries; otherwise with
 * holes between them and in reversed order in the process.
 * Returns 0, or -errno: -EOPNOTSUPP when the machine has no such memory.
 */
int vp_mem_init(struct vp_mem *m, enum vp_mem_kind kind, unsigned int n,
		u64 size, bool adjacent);
/* Pages that are neighbours shall not be so in the machine's memory; at once. */
void vp_mem_scatter(struct vp_mem *m);
void vp_mem_free(struct vp_mem *m);
void vp_mem_reset(struct vp_mem *m);
u64 vp_mem_alloc(struct vp_mem *m, u64 size, u64 align);
void *vp_mem_ptr(const struct vp_mem *m, u64 gpa);
u64 vp_mem_end(const struct vp_mem *m);	/* first address behind it all */
struct vhost_memory *vp_mem_table(const struct vp_mem *m);
/* Who touches pages of @mem that are not there waits, and can be read of. */
int vp_fault_fd(void *mem, size_t size);
void vp_fault_end(int fd, void *mem, size_t size);	/* all are zero then */
#define VP_RAMDISK	"/dev/ram0"
const char *vp_lacks_ramdisk(void);	/* loads its driver; for ktap_case */

/* ---- rings (vpeer_ring.c) ---- */

enum vp_layout {
	VP_LAYOUT_ONE,		/* header and data in one descriptor */
	VP_LAYOUT_HDR,		/* header in a descriptor of its own */
	VP_LAYOUT_MANY,		/* data in many descriptors of random length */
	VP_LAYOUT_RANDOM,	/* another one for every frame */
};

struct vp_seg {
	u64 gpa;
	u32 len;
};

#define VP_HDR_ROOM	64	/* a slot's bytes in front of the frame */
#define VP_MAX_CHAIN	32

struct vp_slot {
	u8 *buf;		/* VP_HDR_ROOM bytes, then the frame */
	u64 gpa;
	u8 *hdr;		/* where the virtio-net header is now */
	struct vring_desc *indirect;
	u64 indirect_gpa;
	u16 *idx;		/* ring indices of its descriptors */
	u32 len;		/* bytes posted */
	bool busy;
};

struct vp_ring {
	u16 num;
	bool event_idx;
	bool is_rx;
	unsigned int hlen;
	u64 desc_gpa, avail_gpa, used_gpa;
	u64 place[2][3];	/* two places, to move between */
	unsigned int side;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	u16 avail_idx;		/* next entry we fill */
	u16 kick_idx;		/* avail index at the last decision to kick */
	u16 used_idx;		/* next entry we read */
	bool cb_on;
	int kick, call, err;	/* eventfds */

	unsigned int nslots, chain;
	struct vp_slot *slot;
	u32 buf_size;
	u16 *owner;		/* head -> slot */
	u16 *free;
	unsigned int nfree;
	u16 *order;		/* slot behind each avail entry */

	u64 kicks, calls, bad_used;
};

struct vp_ring_cfg {
	u16 num;
	u32 buf_size;
	unsigned int chain;	/* descriptors a slot may use */
	bool event_idx;
	bool is_rx;
	unsigned int hlen;
};

int vp_ring_init(struct vp_ring *r, struct vp_mem *m,
		 const struct vp_ring_cfg *cfg, struct vp_rand *rnd);
void vp_ring_free(struct vp_ring *r);
int vp_ring_place(struct vp_ring *r, struct vp_mem *m);
void vp_ring_restart(struct vp_ring *r, u16 base);
u64 vp_ring_bytes(const struct vp_ring_cfg *cfg);

static inline struct vp_slot *vp_ring_get_slot(struct vp_ring *r)
{
	return r->nfree ? &r->slot[r->free[--r->nfree]] : NULL;
}

static inline void vp_ring_put_slot(struct vp_ring *r, struct vp_slot *s)
{
	s->busy = false;
	r->free[r->nfree++] = s - r->slot;
}

void vp_ring_post(struct vp_ring *r, struct vp_slot *s,
		  const struct vp_seg *seg, unsigned int n, bool indirect);
void vp_ring_repost(struct vp_ring *r, struct vp_slot *s);
unsigned int vp_ring_split(const struct vp_ring *r, struct vp_slot *s, u32 len,
			   enum vp_layout layout, unsigned int max,
			   struct vp_rand *rnd, struct vp_seg *seg);
struct vp_slot *vp_ring_pop(struct vp_ring *r, u32 *len);
bool vp_ring_kick(struct vp_ring *r);
void vp_ring_kick_anyway(struct vp_ring *r);
bool vp_ring_cb_enable(struct vp_ring *r, u16 ahead);
void vp_ring_cb_disable(struct vp_ring *r);
void vp_ring_call_clear(struct vp_ring *r);

static inline bool vp_ring_used_pending(const struct vp_ring *r)
{
	return READ_ONCE(r->used->idx) != r->used_idx;
}

static inline unsigned int vp_ring_inflight(const struct vp_ring *r)
{
	return r->nslots - r->nfree;
}

/* ---- network (vpeer_net.c) ---- */

struct vp_tap_cfg {
	bool vnet_hdr;
	unsigned int hdr_size;
	unsigned int offload;	/* TUN_F_* */
	int sndbuf;		/* 0: no limit, as QEMU sets it */
	bool multi_queue;
	unsigned int mtu;	/* 0: leave it */
};

int vp_packet_open(const char *name);
int vp_tap_open(const char *name, const struct vp_tap_cfg *cfg);
/* A new one above @lower, in bridge mode. */
int vp_macvtap_open(const char *name, const char *lower, const u8 *mac,
		    const struct vp_tap_cfg *cfg);
void vp_link_up(const char *name, unsigned int mtu);
void vp_link_down(const char *name);
void vp_bridge_add(const char *name, unsigned int mtu);
void vp_bridge_port(const char *bridge, const char *port);
/* A machine that says nothing for 300 s is forgotten, but not this one. */
void vp_bridge_keep(const char *port, unsigned int peer);
u64 vp_link_dropped(const char *name);		/* of both directions */
void vp_link_mac(const char *name, u8 *mac);
bool vp_link_exists(const char *name);
bool vp_link_running(const char *name);		/* up, with a carrier */
bool vp_bridge_knows(const char *bridge, const u8 *mac);
/* Run a command ("ip link ...", "bridge ..."): its exit status. */
int vp_cmd(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Commands that are separated by "; "; fast for ip, bridge and tc. */
void vp_script(const char *commands);
void vp_script_end(void);
/* A program of enum bpf_prog_type @type that returns @ret; the case fails if not. */
int vp_bpf_load(unsigned int type, u32 ret);
int vp_write_file(const char *path, const char *text);	/* 0 or -errno */
int vp_read_file(const char *path, char *buf, size_t size);
bool vp_on_uml(void);

/* ---- frames (vpeer_frame.c) ---- */

enum vp_kind {
	VP_RAW,		/* a local Ethernet type */
	VP_VLAN,	/* the same, with an 802.1Q tag */
	VP_UDP4,	/* partial checksum */
	VP_TCP4,	/* partial checksum; GSO when longer than a segment */
	VP_TCP6,
	VP_KINDS,
};

extern const char * const vp_kind_name[VP_KINDS];

#define VP_FRAME_MAX	65535
#define VP_FRAME_MIN	60
/* Frames of one segment fit an MTU of 1500 with an IPv6 header, too. */
#define VP_GSO_SIZE	1428

/* Who sent a frame to whom; packed in its flow id. */
struct vp_flow_id {
	u8 src, dst;
	u8 sub;			/* queue of the sender, and kind */
	u8 gen;
};

struct vp_frame {		/* what the parser finds */
	struct vp_flow_id id;
	enum vp_kind kind;
	u64 seq;
	u32 off, len;		/* this part of the frame's payload ... */
	u32 total;		/* ... and all of it */
};

enum vp_verdict {
	VP_FRAME_OK,
	VP_FRAME_FOREIGN,	/* not one of ours, or for somebody else */
	VP_FRAME_CORRUPT,
};

void vp_mac(u8 *mac, unsigned int peer);
u32 vp_kind_min(enum vp_kind kind);
u32 vp_sum_pseudo(const u8 *ip, bool v6, u8 proto, u32 len);
u32 vp_frame_build(u8 *frame, struct virtio_net_hdr_v1 *h, enum vp_kind kind,
		   struct vp_flow_id id, u64 seq, u32 len, const u8 *dmac,
		   u16 vlan);
enum vp_verdict vp_frame_check(const u8 *frame, u32 len,
			       const struct virtio_net_hdr_v1 *h, bool has_hdr,
			       unsigned int self, struct vp_frame *out,
			       char *why, size_t size);

/* ---- one guest (vpeer_dev.c) ---- */

#define VP_MAX_QP	8
/*
 * A flow is what the network keeps in order: frames of one kind, from one
 * peer's queue to another peer.  (A fair queue on the way is allowed to
 * overtake with other kinds.)
 */
#define VP_MAX_SUB	(VP_MAX_QP * VP_KINDS)

struct vp_cfg {
	u64 features;			/* acked; see VP_F_* */
	u16 rx_num, tx_num;
	unsigned int queues;
	enum vp_mem_kind mem;
	unsigned int regions;
	bool adjacent;
	bool scatter;			/* see vp_mem_scatter() */
	enum vp_layout rx_layout, tx_layout;
	unsigned int indirect;		/* per cent of chains */
	unsigned int rx_chain, tx_chain;
	u32 rx_buf;			/* bytes of data an RX buffer holds */
	u32 tx_buf;
	unsigned int offload;
	int sndbuf;
	unsigned int mtu;
	bool spin;			/* never sleep, never ask for a call */
	unsigned int busyloop_us;
	const char *packet_dev;		/* a packet socket there, not a tap */
	const char *macvtap;		/* a macvtap above that, not a tap */
	bool kthread_worker;		/* where the kernel lets us choose */
	const char *bridge;
};

#define VP_F_MODERN	VP_BIT(VIRTIO_F_VERSION_1)
#define VP_F_MRG	VP_BIT(VIRTIO_NET_F_MRG_RXBUF)
#define VP_F_EVENT	VP_BIT(VIRTIO_RING_F_EVENT_IDX)
#define VP_F_INDIRECT	VP_BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define VP_F_VHOST_HDR	VP_BIT(VHOST_NET_F_VIRTIO_NET_HDR)
#define VP_F_LOG	VP_BIT(VHOST_F_LOG_ALL)
#define VP_F_IOMMU	VP_BIT(VIRTIO_F_ACCESS_PLATFORM)
#define VP_F_DEFAULT	(VP_F_MODERN | VP_F_MRG | VP_F_EVENT | VP_F_INDIRECT)

struct vp_qp {
	int vhost, tap;
	struct vp_ring rx, tx;
};

struct vp_peer {
	struct vp_cfg cfg;
	unsigned int index;
	char tap[16];
	u8 mac[6];
	unsigned int hlen;
	struct vp_mem mem;
	struct vp_rand rnd;
	struct vp_qp qp[VP_MAX_QP];
	u8 *gather;			/* a frame from several RX buffers */
	bool running;
	bool extra_mem;
	void *log;
	size_t log_size;
};

enum { VP_VQ_RX, VP_VQ_TX };

void vp_cfg_default(struct vp_cfg *c);
void vp_tap_name(char *name, unsigned int peer);
int vp_open(struct vp_peer *p, const struct vp_cfg *cfg, unsigned int index);
int vp_setup(struct vp_peer *p);	/* owner, features, memory, rings */
int vp_start(struct vp_peer *p);
int vp_stop(struct vp_peer *p);
int vp_set_addr(struct vp_peer *p, unsigned int q, unsigned int vq);
int vp_set_mem(struct vp_peer *p, bool extra);
int vp_set_backend(struct vp_peer *p, unsigned int q, unsigned int vq, int fd);
int vp_set_features(struct vp_peer *p, u64 features);
int vp_reset_owner(struct vp_peer *p);
int vp_move_rings(struct vp_peer *p);	/* stopped; to other addresses */
int vp_reconfigure(struct vp_peer *p, u64 features);	/* a guest's reboot */
void vp_close(struct vp_peer *p);
int vp_log_on(struct vp_peer *p);
int vp_log_off(struct vp_peer *p);

void vp_rx_fill(struct vp_peer *p, unsigned int q);
int vp_tx(struct vp_peer *p, unsigned int q, enum vp_kind kind,
	  struct vp_flow_id id, u64 seq, u32 len, u16 vlan);
int vp_tx_raw(struct vp_peer *p, unsigned int q,
	      const struct virtio_net_hdr_v1 *h, const void *frame, u32 len);
unsigned int vp_tx_reclaim(struct vp_peer *p, unsigned int q);

typedef void vp_rx_fn(struct vp_peer *p, unsigned int q, const u8 *frame,
		      u32 len, const struct virtio_net_hdr_v1 *h, void *arg);
unsigned int vp_rx(struct vp_peer *p, unsigned int q, unsigned int budget,
		   vp_rx_fn *fn, void *arg);
void vp_dump(struct vp_peer *p, const char *why);
u64 vp_bad_used(const struct vp_peer *p);
u64 vp_ring_errors(struct vp_peer *p);	/* the device signalled an error */

/* ---- peers as processes (vpeer_run.c) ---- */

#define VP_MAX_PEERS	32
#define VP_SEEN		1024	/* sequence numbers remembered a flow */

struct vp_flow {
	u64 sent;		/* by the sender */
	u64 acked;		/* by the receiver: rcvd, and lost ones */
	u64 forgiven;		/* frames before that one may be missing */
	u64 next, rcvd, bytes, lost, dup, reordered;
	u32 part;		/* GSO frame in pieces: bytes so far */
	u64 seen[VP_SEEN / 64];
};

struct vp_traffic {
	u32 kinds;		/* bits of enum vp_kind; 0: VP_RAW */
	u32 min, max;		/* frame size */
	bool small_half;	/* every other one has less than 256 bytes */
	u32 big, big_one_in;	/* TCP: one in so many is up to this long */
	u32 window;		/* frames in flight; all kinds share it */
	u16 vlan;
};

enum vp_state {
	VP_S_NONE, VP_S_STARTING, VP_S_READY, VP_S_ENDED,
};

struct vp_peer_shm {
	pid_t pid;
	enum vp_state state;
	char tap[16];
	bool quieted;		/* has seen world.quiet; TX ring empty */
	u64 corrupt, foreign, missed_calls, stalls, bad_used, errors;
	u64 dropped;		/* by its tap, until it ended */
	u64 tx_frames, tx_bytes, rx_frames, rx_bytes, events;
	bool in_event;
	bool waiting;
	bool dead;		/* from a vp_kill() until vp_wait_ready() */
};

typedef void vp_event_fn(struct vp_peer *p, u64 count);

struct vp_world;
typedef void vp_run_fn(struct vp_world *w, unsigned int i,
		       const struct vp_cfg *cfg);

struct vp_world {
	unsigned int n;
	unsigned int queues;		/* of the peer that has most */
	struct vp_traffic traffic;
	bool stop, quiet;
	u64 unload_ms;		/* since when the module is unloaded, or 0 */
	bool calm;		/* little traffic while nobody waits for it */
	unsigned int waiting;	/* somebody does */
	unsigned int dump;	/* incremented: all peers print their state */
	bool send[VP_MAX_PEERS][VP_MAX_PEERS];	/* the traffic matrix */
	bool lossy[VP_MAX_PEERS];	/* loss to or from it is no failure */
	bool crowded[VP_MAX_PEERS];	/* its tap may drop, but not for ever */
	u32 loose;		/* bits: queues whose frames may get lost, or late */
	struct vp_peer_shm peer[VP_MAX_PEERS];
	int wake[VP_MAX_PEERS];		/* eventfds */
	struct vp_flow flow[VP_MAX_PEERS][VP_MAX_PEERS][VP_MAX_SUB];
	/* called in the peer's process every event_ms, when set */
	vp_event_fn *event;
	unsigned int event_ms;
	u32 event_peers;		/* bits: whose processes */
	/* frames with another source than an honest peer's are ignored */
	u32 hostile;			/* bits: peers that may send anything */
	/* what the peer's process runs, when set, instead of vp_run_peer() */
	vp_run_fn *run[VP_MAX_PEERS];
	unsigned int phase;		/* ... and what it is told */
};

/* For events: take all frames and completions that there are. */
void vp_drain(struct vp_peer *p);

struct vp_world *vp_world_new(unsigned int n, const char *bridge,
			      unsigned int mtu);
void vp_world_mesh(struct vp_world *w);		/* everyone to everyone */
/* The newest world's peers are told that rmmod begins, or has ended. */
void vp_unloading(bool on);
/*
 * Where CROSSTALK_CALM is set in the environment, the peers leave the processors
 * to others while nobody waits for frames: for tests that are not about load.
 */
void vp_world_calm(struct vp_world *w, bool calm);
/* In the calling process, until world.stop. */
void vp_run_peer(struct vp_world *w, unsigned int i, const struct vp_cfg *cfg);
void vp_spawn(struct vp_world *w, unsigned int i, const struct vp_cfg *cfg);
void vp_wait_ready(struct vp_world *w);
void vp_go(struct vp_world *w);
void vp_alive(struct vp_world *w);		/* fails if a peer ended */
u64 vp_total(struct vp_world *w);		/* frames received by all */
/* Wait until every flow moved @frames on; a flow that stands still fails. */
void vp_wait_frames(struct vp_world *w, u64 frames);
/* The same, for the events of all peers that have them. */
void vp_wait_events(struct vp_world *w, u64 events);
/* No more events of peer @i, nor one that has begun. */
void vp_stop_events(struct vp_world *w, unsigned int i);
void vp_quiesce(struct vp_world *w);	/* stop sending; all arrived or fail */
void vp_resume(struct vp_world *w);
/* After vp_quiesce(): losses so far are fine, from now on there are none. */
void vp_forgive(struct vp_world *w);
void vp_finish(struct vp_world *w);	/* quiesce, end, check everything */
void vp_kill(struct vp_world *w, unsigned int i);	/* SIGKILL, reaped */
void vp_check(struct vp_world *w);	/* fails the case on any error */

#endif
