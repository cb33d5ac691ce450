// SPDX-License-Identifier: GPL-2.0
/*
 * Notifications of the module's TX loop: none is lost, whatever the ring and
 * the socket do.
 */
#include <string.h>

#include "ctl.h"
#include "ktap.h"
#include "scenario.h"
#include "vpeer.h"

#define FRAMES	ktap_count("CROSSTALK_FRAMES", 2000, 120)

/* Both taps become slow, so that frames wait. */
#define TBF	"tc qdisc add dev %s root tbf rate 40mbit burst 20k limit 4m"
#define SLOW_TAPS	TBF " && " TBF

static const char *setup;	/* a command before the traffic */

static void run_pair(const struct vp_cfg *a, const struct vp_cfg *b,
		     const struct vp_traffic *t, u64 frames)
{
	scenario_run(&(struct scenario) {
		.cfg = a, .other = b, .traffic = *t, .frames = frames,
		.setup = setup,
	});
}

static const struct vp_traffic plain = { .min = 60, .max = 1514, .window = 64 };

static void run(const struct vp_cfg *c, const struct vp_traffic *t)
{
	run_pair(c, c, t, FRAMES);
}

/*
 * A limited send buffer: frames wait in a slow queue, the socket says EAGAIN,
 * and EPOLLOUT must bring the loop back.
 */
static void sndbuf(void)
{
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.sndbuf = 1 << 20;
	run(&c, &plain);
	c.sndbuf = 16384;
	setup = SLOW_TAPS;
	run_pair(&c, &c, &plain, FRAMES / 2);
	setup = NULL;
}

/* The same without a limit: the batch path into a slow queue. */
static void slow_port(void)
{
	struct vp_cfg c;

	vp_cfg_default(&c);
	setup = SLOW_TAPS;
	run_pair(&c, &c, &plain, FRAMES / 2);
	setup = NULL;
}

/* One frame at a time, each of which needs every notification on its way. */
static void ping_pong(void)
{
	struct vp_traffic t = { .min = 60, .max = 60, .window = 1 };
	unsigned int n = ktap_count("CROSSTALK_PINGS", 20000, 240) / 4;
	static const u64 f[] = {
		VP_F_DEFAULT, VP_F_MODERN | VP_F_MRG, VP_F_EVENT, 0,
	};
	struct vp_cfg c;
	unsigned int i;

	for (i = 0; i < VP_ARRAY_SIZE(f); i++) {
		vp_cfg_default(&c);
		c.features = f[i];
		run_pair(&c, &c, &t, n);
	}
}

/* Windows that end just where notifications are decided. */
static void windows(void)
{
	struct vp_traffic t = { .min = 60, .max = 100 };
	static const u32 window[] = { 2, 3, 63, 64, 65, 128, 300 };
	struct vp_cfg c;
	unsigned int i;

	vp_cfg_default(&c);
	for (i = 0; i < VP_ARRAY_SIZE(window); i += ktap_quick() ? 3 : 1) {
		t.window = window[i];
		run_pair(&c, &c, &t, FRAMES / 4);
	}
}

static void small_rings(void)
{
	static const u16 num[] = { 1, 2, 4, 16, 1024 };
	struct vp_cfg c;
	unsigned int i;

	for (i = 0; i < VP_ARRAY_SIZE(num); i += ktap_quick() ? 2 : 1) {
		vp_cfg_default(&c);
		c.tx_num = num[i];
		c.rx_num = vp_max(num[i], (u16)4);
		run_pair(&c, &c, &plain, FRAMES / 8);
		c.features &= ~VP_F_EVENT;
		run_pair(&c, &c, &plain, FRAMES / 8);
	}
}

static void spinning(void)
{
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.spin = true;
	run(&c, &plain);
}

static void batch(void)
{
	static const char * const b[] = { "1", "2", "7", "63", "64" };
	struct vp_cfg c;
	unsigned int i;
	char buf[16];

	ctl_need_loaded();
	vp_cfg_default(&c);
	for (i = 0; i < VP_ARRAY_SIZE(b); i += ktap_quick() ? 2 : 1) {
		ktap_assert(!ctl_write("batch", b[i]), "batch %s", b[i]);
		ctl_read("batch", buf, sizeof(buf));
		ktap_assert(!strcmp(buf, b[i]), "batch is %s", buf);
		run_pair(&c, &c, &plain, FRAMES / 4);
	}
}

static const struct ktap_case cases[] = {
	{ "sndbuf", sndbuf, .slow = true },
	{ "slow_port", slow_port },
	{ "ping_pong", ping_pong, 120 },
	{ "windows", windows },
	{ "small_rings", small_rings, 120, .slow = true },
	{ "spinning", spinning },
	{ "batch", batch },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
