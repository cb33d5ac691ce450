// SPDX-License-Identifier: GPL-2.0
/* Several queue pairs in a guest, many guests on a bridge, worker threads. */
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
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

static void queues(bool module)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_UDP4) | VP_BIT(VP_TCP4),
		.min = 60, .max = 1514, .window = 16,
	};
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.queues = 4;
	run(3, &c, &t, ktap_count("CROSSTALK_FRAMES", 4000, 400), module);
}

static void queues_plain(void)
{
	queues(false);
}

static void queues_hooked(void)
{
	queues(true);
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
	{ "many_plain", many_plain, 100, true },
	{ "many_hooked", many_hooked, 100 },
	{ "kthread_worker", kthread_worker },
	{ "forked_owner", forked_owner },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
