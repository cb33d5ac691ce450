// SPDX-License-Identifier: GPL-2.0
/*
 * Taps and bridges, by ioctl, because that needs no tools and no time; what
 * goes beyond that uses iproute2 through vp_cmd().
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/bpf.h>
#include <linux/if_bridge.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>

#include "ktap.h"
#include "vpeer.h"

static int net_ioctl(unsigned long req, void *arg)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int ret;

	if (fd < 0)
		return -errno;
	ret = ioctl(fd, req, arg) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int link_flags(const char *name, short set, short clear)
{
	struct ifreq ifr = {};
	int ret;

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	ret = net_ioctl(SIOCGIFFLAGS, &ifr);
	if (ret)
		return ret;
	ifr.ifr_flags = (ifr.ifr_flags & ~clear) | set;
	return net_ioctl(SIOCSIFFLAGS, &ifr);
}

void vp_link_up(const char *name, unsigned int mtu)
{
	struct ifreq ifr = {};
	int ret;

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (mtu) {
		ifr.ifr_mtu = mtu;
		ret = net_ioctl(SIOCSIFMTU, &ifr);
		if (ret)
			ktap_fail("%s: mtu %u: %s", name, mtu, strerror(-ret));
	}
	ret = link_flags(name, IFF_UP, 0);
	if (ret)
		ktap_fail("%s: up: %s", name, strerror(-ret));
}

void vp_link_down(const char *name)
{
	link_flags(name, 0, IFF_UP);
}

bool vp_link_exists(const char *name)
{
	return if_nametoindex(name) != 0;
}

bool vp_link_running(const char *name)
{
	struct ifreq ifr = {};

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	return !net_ioctl(SIOCGIFFLAGS, &ifr) && ifr.ifr_flags & IFF_RUNNING;
}

void vp_link_mac(const char *name, u8 *mac)
{
	struct ifreq ifr = {};

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	net_ioctl(SIOCGIFHWADDR, &ifr);
	memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
}

void vp_bridge_add(const char *name, unsigned int mtu)
{
	char arg[IFNAMSIZ] = {};
	int ret;

	/* Only our own frames: no neighbour or multicast chatter. */
	vp_write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	vp_write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
	strncpy(arg, name, IFNAMSIZ - 1);
	ret = net_ioctl(SIOCBRADDBR, arg);
	if (ret && ret != -EEXIST)
		ktap_fail("bridge %s: %s", name, strerror(-ret));
	vp_link_up(name, 0);
	if (mtu) {
		struct ifreq ifr = { .ifr_mtu = mtu };

		strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
		net_ioctl(SIOCSIFMTU, &ifr);
	}
}

void vp_bridge_port(const char *bridge, const char *port)
{
	struct ifreq ifr = { .ifr_ifindex = if_nametoindex(port) };
	int ret;

	strncpy(ifr.ifr_name, bridge, IFNAMSIZ - 1);
	ret = net_ioctl(SIOCBRADDIF, &ifr);
	if (ret)
		ktap_fail("bridge %s, port %s: %s", bridge, port,
			  strerror(-ret));
}

void vp_bridge_keep(const char *port, unsigned int peer)
{
	u8 mac[6];

	vp_mac(mac, peer);
	if (vp_cmd("bridge fdb replace %02x:%02x:%02x:%02x:%02x:%02x dev %s master static",
		   mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], port))
		ktap_fail("port %s: no static entry", port);
}

/* Whether the address is in its table, and is not too old. */
bool vp_bridge_knows(const char *bridge, const u8 *mac)
{
	struct __fdb_entry e[64];
	unsigned long args[4] = {
		BRCTL_GET_FDB_ENTRIES, (unsigned long)e, VP_ARRAY_SIZE(e), 0,
	};
	struct ifreq ifr = { .ifr_data = (void *)args };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), n;

	strncpy(ifr.ifr_name, bridge, IFNAMSIZ - 1);
	n = ioctl(fd, SIOCDEVPRIVATE, &ifr);
	if (n < 0)
		ktap_fail("bridge %s: %s", bridge, strerror(errno));
	close(fd);
	while (n--)
		if (!memcmp(e[n].mac_addr, mac, 6))
			return true;
	return false;
}

static int set_up_tap(int fd, struct ifreq *ifr, const struct vp_tap_cfg *cfg)
{
	int sndbuf = cfg->sndbuf ?: INT_MAX, hdr = cfg->hdr_size, err;

	if (ioctl(fd, TUNSETIFF, ifr) ||
	    (cfg->vnet_hdr && ioctl(fd, TUNSETVNETHDRSZ, &hdr)) ||
	    (cfg->vnet_hdr && ioctl(fd, TUNSETOFFLOAD, cfg->offload)) ||
	    ioctl(fd, TUNSETSNDBUF, &sndbuf)) {
		err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

int vp_tap_open(const char *name, const struct vp_tap_cfg *cfg)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd;

	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (cfg->vnet_hdr)
		ifr.ifr_flags |= IFF_VNET_HDR;
	if (cfg->multi_queue)
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
	return set_up_tap(fd, &ifr, cfg);
}

/* Where this name space's network interfaces are in sysfs. */
static int mount_sysfs(char *dir)
{
	strcpy(dir, "/tmp/vpeer-sys-XXXXXX");
	if (!mkdtemp(dir))
		return -errno;
	return mount("sysfs", dir, "sysfs", 0, NULL) ? -errno : 0;
}

/* The character device of a macvtap: udev may not be there to make its node. */
static int open_node(const char *name)
{
	char dir[32], path[256], node[64], dev[32];
	unsigned int major, minor, ifindex = if_nametoindex(name);
	int fd = mount_sysfs(dir);

	if (fd)
		return fd;
	snprintf(path, sizeof(path), "%s/class/net/%s/tap%u/dev", dir, name,
		 ifindex);
	fd = vp_read_file(path, dev, sizeof(dev));
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	if (fd < 0)
		return fd;
	if (sscanf(dev, "%u:%u", &major, &minor) != 2)
		return -EINVAL;
	snprintf(node, sizeof(node), "/dev/vpeer-%s", name);
	unlink(node);
	if (mknod(node, 0600 | S_IFCHR, makedev(major, minor)))
		return -errno;
	fd = open(node, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		fd = -errno;
	unlink(node);
	return fd;
}

int vp_macvtap_open(const char *name, const char *lower, const u8 *mac,
		    const struct vp_tap_cfg *cfg)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd;

	if (vp_cmd("ip link add %s link %s address %02x:%02x:%02x:%02x:%02x:%02x type macvtap mode bridge",
		   name, lower, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]))
		return -EINVAL;
	vp_link_up(name, 0);
	fd = open_node(name);
	if (fd < 0)
		return fd;
	if (cfg->vnet_hdr)
		ifr.ifr_flags |= IFF_VNET_HDR;
	return set_up_tap(fd, &ifr, cfg);
}

/* A raw packet socket that a vhost-net device can have as its backend. */
int vp_packet_open(const char *name)
{
	struct sockaddr_ll sll = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = if_nametoindex(name),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sll, sizeof(sll))) {
		close(fd);
		return -errno;
	}
	return fd;
}

/* Dropped frames of both directions, as "ip -s link" shows them. */
u64 vp_link_dropped(const char *name)
{
	size_t len = strlen(name);
	u64 rx = 0, tx = 0;
	char line[512];
	FILE *f = fopen("/proc/thread-self/net/dev", "r");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		char *s = line + strspn(line, " ");

		if (strncmp(s, name, len) || s[len] != ':')
			continue;
		/* bytes packets errs drop fifo frame compressed multicast */
		sscanf(s + len + 1,
		       "%*u %*u %*u %llu %*u %*u %*u %*u %*u %*u %*u %llu",
		       &rx, &tx);
		break;
	}
	fclose(f);
	return rx + tx;
}

int vp_cmd(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	int ret;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	ret = system(cmd);
	return ret < 0 ? -errno : WIFEXITED(ret) ? WEXITSTATUS(ret) : 128;
}

int vp_bpf_load(unsigned int type, u32 ret)
{
	struct bpf_insn insn[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = ret },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = type,
		.insns = (u64)insn,
		.insn_cnt = VP_ARRAY_SIZE(insn),
		.license = (u64)"GPL",
	};
	int fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));

	ktap_assert(fd >= 0, "BPF_PROG_LOAD: %s", strerror(errno));
	return fd;
}

int vp_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	if (n < 0)
		n = -errno;
	close(fd);
	return n < 0 ? n : 0;
}

/* The file's text without the final newline; its length or -errno. */
int vp_read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n < 0)
		return n;
	while (n && buf[n - 1] == '\n')
		n--;
	buf[n] = 0;
	return n;
}

bool vp_on_uml(void)
{
	char buf[4096];

	return vp_read_file("/proc/cpuinfo", buf, sizeof(buf)) > 0 &&
	       strstr(buf, "User Mode Linux");
}
