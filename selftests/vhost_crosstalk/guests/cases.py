#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Real guests over the direct path: the cases of test_guests.sh.

Two Linux guests are started once, and all cases run in them. Each asks the
module's counters whether its frames went the way that they were to go, so that
nothing passes because the bridge did the work.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import statistics
import sys
import time

from machines import (FAST, SLOW, SLOWNESS, SYSFS, Guest, GuestCrash,
                      GuestError, GuestHang, Machine, Setup, add_bridge, boot_ids,
                      endpoints, host, iperf3, load_kvm, module_loaded,
                      parse_iperf3, parse_ping, ping, read, write)

BRIDGE = "guestbr"
# Pages that a guest's kernel zeroes before it posts them get into the dirty log
# by that, whatever is written to them afterwards is logged or not.
NO_ZEROING = "init_on_alloc=0"
# The bridge's own address: a peer that is no guest
HOST_ADDRESS = "10.0.0.254"
VHOST_F_LOG_ALL = 1 << 26
QUICK = "CROSSTALK_QUICK" in os.environ
MB = 1 << 20


def note(text):
    """A line that a person may want to read; no result."""
    print(f"# {text}", flush=True)


def check(condition, text):
    if not condition:
        raise GuestError(text)


def wait(what, condition, seconds=20):
    """Waits for a condition and returns what it returned."""
    deadline = time.monotonic() + seconds * SLOWNESS
    while True:
        value = condition()
        if value:
            return value
        for guest in Guest.all:
            guest.check_alive()
        check(time.monotonic() < deadline,
              f"no end after {seconds * SLOWNESS} s: {what}")
        time.sleep(0.05)


def direct(value):
    write(f"{SYSFS}/direct", value)


def endpoint(guest):
    """The endpoint of a guest's present QEMU."""
    ep = endpoints().get(guest.tap)
    check(ep, f"the module has no endpoint for {guest.tap} of {guest.name}")
    check(int(ep["pid"]) == guest.pid,
          f"{ep['name']} ({guest.tap}) belongs to process {ep['pid']}, not to "
          f"QEMU of {guest.name}, {guest.pid}")
    return ep


class Ways:
    """By which way frames of the guests went since this was made."""

    def __init__(self, *guests):
        self.guests = guests
        self.before = {g: endpoint(g) for g in guests}

    def moved(self, guest, counter):
        return int(endpoint(guest)[counter]) - \
            int(self.before[guest][counter])

    def __str__(self):
        return ", ".join(f"{g.name} {self.moved(g, FAST)} fast "
                         f"{self.moved(g, SLOW)} slow" for g in self.guests)

    def fast(self, least, *senders):
        """At least so many, and nearly all of them, by the direct path."""
        for g in senders or self.guests:
            fast, slow = self.moved(g, FAST), self.moved(g, SLOW)
            check(fast >= least and fast >= 2 * slow,
                  f"{g.name} sent {fast} frames by the direct path and "
                  f"{slow} by the slow one: want {least} or more by the "
                  f"direct one; verdicts: {endpoint(g)['verdicts']}")

    def slow(self, least, *senders):
        """At least so many by the slow path and none by the direct one."""
        for g in senders or self.guests:
            fast, slow = self.moved(g, FAST), self.moved(g, SLOW)
            check(slow >= least and not fast,
                  f"{g.name} sent {fast} frames by the direct path and "
                  f"{slow} by the slow one: want {least} or more by the "
                  "slow one only")


class Job:
    """A command that runs in a guest while others do."""

    count = 0

    def __init__(self, guest, command):
        Job.count += 1
        self.guest = guest
        self.command = command
        self.base = f"/tmp/job{Job.count}"
        guest.run(f"({command} >{self.base}.out 2>&1; echo $? "
                  f">{self.base}.new; mv {self.base}.new {self.base}.rc) "
                  ">/dev/null 2>&1 &")

    def end(self, seconds=60):
        """Waits for it; its output, if it was successful."""
        seconds *= SLOWNESS
        output = self.guest.run(
            f"n={seconds * 10}; while [ ! -e {self.base}.rc -a $n -gt 0 ]; "
            f"do usleep 100000; n=$((n - 1)); done; cat {self.base}.out; "
            f"echo; cat {self.base}.rc || echo none", seconds + 30)
        output, status = output.rstrip().rsplit("\n", 1)
        check(status == "0", f"'{self.command}' in {self.guest.name}: status "
              f"{status}: {output.strip()[-300:]}")
        return output.strip()


def fresh(guests):
    """Flows become fast: pings until both ends' counters say so."""
    one, two = guests

    def is_fast():
        ways = Ways(one, two)
        output = one.run(f"ping -c 10 -i 0.02 -W 20 {two.address}; true", 240)
        return parse_ping(output, 10)[0] == 0 and \
            ways.moved(one, FAST) >= 5 and ways.moved(two, FAST) >= 5
    wait("pings between the guests take the direct path again", is_fast)


def transfer(one, two, mb=8):
    """A file by TCP each way at the same time, compared at its end."""
    sizes = ((one, two, 1), (two, one, 2))
    for source, _, seed in sizes:
        source.run(f"guest_io fill /tmp/out {mb} {seed}")
    receivers = [Job(target, f"guest_io recv 500{seed} /tmp/in")
                 for _, target, seed in sizes]
    senders = [Job(source, f"guest_io send {target.address} 500{seed} "
                           "/tmp/out")
               for source, target, seed in sizes]
    for job in senders + receivers:
        job.end()
    for _, target, seed in sizes:
        target.run(f"guest_io check /tmp/in {mb} {seed}")
    for guest in (one, two):
        guest.run("rm /tmp/in /tmp/out")


# Cases


def direct_off(one, two):
    """With direct=0 no frame takes the direct path, with 1 nearly all."""
    direct(0)
    ways = Ways(one, two)
    ping(one, two, 20, options="-i 0.02")
    ways.slow(20)
    direct(1)
    fresh((one, two))
    ways = Ways(one, two)
    ping(one, two, 50, options="-i 0.02")
    ways.fast(40)


def ping_ipv4(one, two):
    for source, target in ((one, two), (two, one)):
        ways = Ways(one, two)
        ping(source, target, 50, options="-i 0.02")
        ping(source, target, 10, options="-i 0.02 -s 1400")
        ways.fast(50)


def ping_ipv6(one, two):
    for source, target in ((one, two), (two, one)):
        ways = Ways(one, two)
        ping(source, target, 50, target.address6, "-i 0.02")
        ways.fast(40)


def arp_flush(one, two):
    """Neighbours find each other again, by broadcasts on the slow path."""
    ways = Ways(one, two)
    for _ in range(5):
        for guest, other in ((one, two), (two, one)):
            guest.run("ip neigh flush dev eth0 >/dev/null")
            left = guest.run(f"grep '^{other.address} ' /proc/net/arp | "
                             f"grep {other.mac}; true")
            check(not left, f"{guest.name} still knows {left}")
        ping(one, two, 10, options="-i 0.02")
        for guest, other in ((one, two), (two, one)):
            known = guest.run("cat /proc/net/arp")
            check(re.search(rf"{other.address} .*{other.mac}", known),
                  f"{guest.name} did not learn {other.mac}: {known}")
    check(ways.moved(one, SLOW) >= 5,
          f"no broadcasts on the slow path: {ways}")
    ways.fast(40)


def dhcp(one, two):
    """One guest gets its address from the other one."""
    one.run("mkdir -p /var/lib/misc /var/run; "
            ": >/var/lib/misc/udhcpd.leases; "
            "printf 'start 10.0.0.100\\nend 10.0.0.109\\ninterface eth0\\n"
            "option subnet 255.255.255.0\\noption lease 3600\\n' "
            ">/etc/udhcpd.conf")
    two.run("printf '#!/bin/sh\\n[ \"$1\" != bound ] || echo $ip "
            ">/tmp/lease\\n' >/tmp/bound; chmod 755 /tmp/bound; "
            "rm -f /tmp/lease")
    server = Job(one, "udhcpd -f /etc/udhcpd.conf & sleep 600 & wait")
    lease = ""
    try:
        before = endpoint(two)["tx_packets"]
        two.run("udhcpc -i eth0 -f -n -q -t 10 -T 2 -s /tmp/bound", 90)
        check(endpoint(two)["tx_packets"] != before,
              "the module saw none of the client's frames")
        lease = two.run("cat /tmp/lease").strip()
        check(re.fullmatch(r"10\.0\.0\.10\d", lease),
              f"the client got '{lease}'")
        two.run(f"ip addr add {lease}/24 dev eth0")
        ways = Ways(one, two)
        ping(one, two, 30, lease, "-i 0.02")
        ways.fast(20)
    finally:
        one.run("killall udhcpd sleep; true")
        if lease:
            two.run(f"ip addr del {lease}/24 dev eth0")
    with contextlib.suppress(GuestError):
        server.end(5)


def tcp(one, two):
    for source, target in ((one, two), (two, one)):
        ways = Ways(one, two)
        rate = iperf3(source, target, 2)
        ways.fast(500, source)
        ways.fast(50, target)
        note(f"tcp: {source.name} to {target.name}: {rate:.0f} Mbit/s; {ways}")


def where_lost(guest):
    """The counters of those who may have dropped what a guest should get."""
    base = f"/sys/class/net/{guest.tap}/statistics/"
    host_side = ", ".join(f"{name} {read(base + name)}" for name in
                          ("tx_dropped", "tx_errors", "tx_fifo_errors"))
    guest_side = guest.run("grep -E '^(Ip|Udp):' /proc/net/snmp; "
                           "grep eth0 /proc/net/dev; "
                           "cat /proc/net/softnet_stat")
    return f"{guest.tap}: {host_side}; {guest_side}"


def udp(one, two):
    """iperf3's datagrams, and numbered ones of known content, in order."""
    ways = Ways(one)
    # What is lost with the usual buffer, the guest's kernel loses for want of
    # room in the socket (RcvbufErrors), on either path.
    output = one.run(f"iperf3 -u -c {two.address} -b 20M -l 1400 -t 2 -i 0 "
                     "-w 4M -f m --connect-timeout 20000", 120)
    found = re.search(r"(\d+)/(\d+) \([\d.e+-]+%\)\s+receiver", output)
    check(found, f"cannot read iperf3's output: {output[-300:]}")
    lost, sent = int(found.group(1)), int(found.group(2))
    check(sent >= 500 and lost <= sent / 50,
          f"{lost} of {sent} datagrams of iperf3 were lost")
    ways.fast(500)

    ways = Ways(one, two)
    sinks = [Job(g, "guest_io sink 5001 3") for g in (one, two)]
    blasts = [Job(g, f"guest_io blast {other.address} 5001 3 1500")
              for g, other in ((one, two), (two, one))]
    sent = [int(job.end().split()[0]) for job in blasts]
    got = [int(job.end().split()[0]) for job in reversed(sinks)]
    note(f"udp: iperf3 {lost} of {found.group(2)} lost; numbered datagrams "
         f"{got} of {sent}; {ways}")
    for n, m, g in zip(got, sent, (two, one)):
        check(n >= m * 0.98, f"only {n} of {m} datagrams came to {g.name}: "
              f"{where_lost(g)}")
    ways.fast(500)


def files(one, two):
    ways = Ways(one, two)
    transfer(one, two, 24)
    ways.fast(200)


def jumbo(one, two):
    """An MTU of 9000 works where all have it, and only there."""
    devs = (one.tap, two.tap, BRIDGE)
    try:
        for guest in (one, two):
            guest.run("ip link set eth0 mtu 9000")
        # As the bridge would: too long for the receiver's tap
        output = one.run(f"ping -c 3 -i 0.1 -W 1 -s 8900 {two.address}; true")
        check(parse_ping(output, 3)[0] == 3,
              "frames of 8942 bytes passed a tap with MTU 1500")
        ping(one, two, 5, options="-i 0.02")

        for dev in devs:
            host("ip", "link", "set", dev, "mtu", "9000")
        fresh((one, two))
        ways = Ways(one, two)
        ping(one, two, 40, options="-i 0.02 -s 8900")
        ways.fast(30)
        for guest in (one, two):
            guest.run("ethtool -K eth0 tso off gso off")
        ways = Ways(one, two)
        transfer(one, two)
        ways.fast(500)
    finally:
        for dev in devs:
            host("ip", "link", "set", dev, "mtu", "1500")
        for guest in (one, two):
            guest.run("ethtool -K eth0 tso on gso on; "
                      "ip link set eth0 mtu 1500")


def vlan(one, two):
    """Tagged frames of a VLAN interface in each guest."""
    try:
        for n, guest in enumerate((one, two), 1):
            guest.run("for m in /modules/later/*; do insmod $m 2>/dev/null; "
                      "done; "
                      "ip link add link eth0 name eth0.7 type vlan id 7 && "
                      f"ip addr add 10.7.0.{n}/24 dev eth0.7 && "
                      "ip link set eth0.7 up")
        ping(one, two, 5, "10.7.0.2", "-i 0.05")
        ways = Ways(one, two)
        ping(one, two, 40, "10.7.0.2", "-i 0.02")
        ways.fast(30)
        job = Job(two, "guest_io verify 5001 7")
        ways = Ways(one, two)
        one.run("guest_io stream 10.7.0.2 5001 1 7", 120)
        job.end()
        ways.fast(50)
        check(re.search(rf"{one.mac} {two.mac} 7 ep\d+ ",
                        endpoint(one)["verdicts"]),
              f"no verdict for VLAN 7: {endpoint(one)['verdicts']}")
    finally:
        for guest in (one, two):
            guest.run("ip link del eth0.7; true")


def offloads(one, two):
    """What the sender may leave to others, and the receiver can take."""
    everything = "tx on sg on tso on gso on"
    steps = (
        # sender's switches, receiver's, and whether its frames go fast
        ("tso off gso off", "", True),
        ("tx off", "", True),
        ("tx on tso on gso off", "", True),
        (everything, "rx-gro-hw off", False),
        ("tso off", "rx-gro-hw off", True),
    )
    try:
        for tx, rx, fast in steps:
            one.run(f"ethtool -K eth0 {tx} >/dev/null")
            if rx:
                two.run(f"ethtool -K eth0 {rx} >/dev/null")
            fresh((one, two))
            job = Job(two, "guest_io verify 5001 8")
            ways = Ways(one, two)
            one.run(f"guest_io stream {two.address} 5001 1 8", 120)
            job.end()
            note(f"offloads: sender '{tx}', receiver '{rx}': {ways}")
            if fast:
                ways.fast(100, one)
            else:
                # GSO frames that the receiver's tap has to cut
                check(ways.moved(one, SLOW) >= 20,
                      "frames that the receiver cannot take did not go by "
                      f"its tap: {ways}")
    finally:
        one.run(f"ethtool -K eth0 {everything}")
        two.run("ethtool -K eth0 rx-gro-hw on")


def throughput(one, two):
    """TCP with and without the direct path, by turns."""
    seconds, rounds = (2, 3) if QUICK else (3, 5)
    ratios = []
    for n in range(rounds):
        rate = {}
        for value in ((0, 1), (1, 0))[n % 2]:
            direct(value)
            if value:
                fresh((one, two))
            ways = Ways(one, two)
            rate[value] = iperf3(one, two, seconds)
            if value:
                ways.fast(500, one)
            else:
                ways.slow(500, one)
        ratios.append(rate[1] / rate[0])
        note(f"throughput: direct=0 {rate[0]:.0f} Mbit/s, direct=1 "
             f"{rate[1]:.0f} Mbit/s, ratio {ratios[-1]:.2f}")
    note(f"RESULT: TCP from guest to guest, direct=1 over direct=0 in "
         f"wall time, {rounds} rounds of {seconds} s: median "
         f"{statistics.median(ratios):.2f}, from {min(ratios):.2f} to "
         f"{max(ratios):.2f}")
    direct(1)
    # No target: that is for the person who reads it. But never slower.
    check(statistics.median(ratios) > 1,
          f"the direct path is slower: {ratios}")


def reload(one, two):
    """rmmod and insmod under iperf3 and a stream of known data."""
    stop = "/tmp/stop"
    one.run(f"rm -f {stop}")
    verify = Job(two, "guest_io verify 5001 9")
    stream = Job(one, f"guest_io stream {two.address} 5001 {stop} 9")
    bulk = Job(two, f"iperf3 -c {one.address} -t 8 -i 0 -f m "
                    "--connect-timeout 20000")
    pings = Job(one, f"ping -c 40 -i 0.2 -W 20 {two.address}")
    for _ in range(3):
        time.sleep(0.8)
        host("rmmod", "vhost_crosstalk")
        check(not os.path.exists(SYSFS), f"rmmod has left {SYSFS}")
        time.sleep(0.8)
        insert()
        wait_hooked(one, two)
        ways = Ways(one, two)
        wait("the stream takes the direct path again",
             lambda w=ways: w.moved(one, FAST) > 100 and
             w.moved(two, FAST) > 100)
    note(f"reload: iperf3 across it: {parse_iperf3(bulk.end()):.0f} Mbit/s")
    lost, _ = parse_ping(pings.end(), 40)
    check(not lost, f"{lost} pings were lost")
    one.run(f": >{stop}")
    sent, got = stream.end(), verify.end()
    check(sent == got, f"sent {sent}, received {got}")


class Migration:
    """A guest on its way from one QEMU to another, directly or by a file."""

    def __init__(self, guest, to_file):
        self.guest = guest
        self.to_file = to_file
        self.path = f"{guest.setup.run}/migration"
        self.source = guest.machine
        self.target = None
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def begin(self):
        """Starts it, too slow to come to its end."""
        uri = f"exec:cat >{self.path}"
        if not self.to_file:
            uri = f"unix:{self.path}"
            self.guest.add_tap("tap2b")
            self.target = Machine(self.guest, "tap2b", ("-incoming", uri))
            wait("the other QEMU listens",
                 lambda: os.path.exists(self.path))
        self.source.qmp("migrate-set-parameters", max_bandwidth=16 * MB,
                        downtime_limit=1)
        self.source.qmp("migrate", uri=uri)

    def state(self):
        state = self.source.qmp("query-migrate")
        check(state.get("status") != "failed",
              f"the migration failed: {state.get('error-desc')}")
        return state

    def passes(self):
        """How often the guest's memory was gone through, 0 if it is not."""
        state = self.state()
        return state["ram"]["dirty-sync-count"] \
            if state.get("status") == "active" else 0

    def finish(self):
        """Lets it come to its end, and the guest run on the other side."""
        self.source.qmp("migrate-set-parameters", max_bandwidth=1 << 33,
                        downtime_limit=5000)
        wait("the migration ends",
             lambda: self.state()["status"] == "completed", 60)
        state = self.state()
        self.source.stop()
        if self.to_file:
            self.target = Machine(self.guest, self.guest.tap,
                                  ("-incoming", f"exec:cat {self.path}"))
        self.guest.tap, self.guest.machine = self.target.tap, self.target
        wait("the guest runs again", lambda:
             self.target.qmp("query-status")["status"] == "running", 60)
        return state

    def clean_up(self):
        if self.target and self.guest.machine is not self.target:
            self.target.stop()
        with contextlib.suppress(OSError):
            os.unlink(self.path)


def receive_logged(one, two, migration, held_mb):
    """The guest receives while its dirty log is on; returns the frames."""
    wait("the dirty log is on", lambda: migration.state() and
         int(endpoint(two)["features"], 16) & VHOST_F_LOG_ALL)
    fast = endpoint(two)["rx_fast_packets"]
    got = two.tap_counters()["got"]
    # All memory was sent once: what comes now must be sent again.
    wait("the second pass over the guest's memory",
         lambda: migration.passes() >= 2, 60)
    sender = Job(one, f"guest_io send {two.address} 5002 /tmp/held")
    queued = "awk '$2 ~ /:138A$/ && $4 != \"0A\" { print $5 }' " \
             "/proc/net/tcp /proc/net/tcp6 | cut -d: -f2"
    wait("received data waits in the guest's socket",
         lambda: int(two.run(queued).strip() or "0", 16) >= held_mb * MB)
    check(migration.passes(), "the migration ended too early")
    got = two.tap_counters()["got"] - got
    check(got > 100, f"only {got} frames came while the dirty log was on")
    wait("the verdict says why", lambda:
         re.search(rf"{one.mac} {two.mac} 0 migration ",
                   endpoint(one)["verdicts"]))
    check(endpoint(two)["rx_fast_packets"] == fast,
          "frames were placed in a guest's memory while its dirty log was "
          f"on: {fast} and now {endpoint(two)['rx_fast_packets']}")
    return sender, got


def move(one, two, to_file):
    """Migrates a guest while the other one sends to it.

    What was received while the dirty log is on must be in its memory
    afterwards. Most of that waits in socket buffers, where only vhost or the
    module has written it: a program that copied it would have it logged by KVM.
    """
    ids = boot_ids((one, two))
    base_mb, held_mb = 32, 4
    two.run(f"guest_io fill /tmp/base {base_mb} 21; rm -f /tmp/gate")
    one.run(f"guest_io fill /tmp/held {held_mb} 22; rm -f /tmp/stop")
    verify = Job(two, "guest_io verify 5001 23")
    held = Job(two, "guest_io recv 5002 /tmp/held /tmp/gate")
    stream = Job(one, f"guest_io stream {two.address} 5001 /tmp/stop 23")
    ways = Ways(one, two)
    wait("the stream takes the direct path",
         lambda: ways.moved(one, FAST) > 100)

    migration = Migration(two, to_file)
    try:
        migration.begin()
        sender, got = receive_logged(one, two, migration, held_mb)
        state = migration.finish()
    finally:
        migration.clean_up()
    note(f"migration to {'a file' if to_file else 'another QEMU'}: "
         f"{state['ram']['dirty-sync-count']} passes, {got} frames received "
         "while the dirty log was on, down for "
         f"{state.get('downtime', 0)} ms")

    two.run(": >/tmp/gate")
    sender.end()
    held.end()
    two.run(f"guest_io check /tmp/held {held_mb} 22")
    two.run(f"guest_io check /tmp/base {base_mb} 21")
    wait_hooked(one, two)
    check(not int(endpoint(two)["features"], 16) & VHOST_F_LOG_ALL,
          "the dirty log is still on")
    ways = Ways(one, two)
    wait("the stream takes the direct path again",
         lambda: ways.moved(one, FAST) > 100)
    one.run(": >/tmp/stop")
    sent, got = stream.end(), verify.end()
    check(sent == got, f"sent {sent}, received {got}")
    check(boot_ids((one, two)) == ids, "a guest was started again")
    two.run("rm /tmp/base /tmp/held")
    fresh((one, two))


def migrate_live(one, two):
    move(one, two, False)


def migrate_file(one, two):
    move(one, two, True)


def survive(one, two, leave):
    """A guest goes away and comes back while the other one sends to it."""
    one.run("rm -f /tmp/stop")
    before = boot_ids((one,))
    blast = Job(one, f"guest_io blast {two.address} 5001 /tmp/stop 500")
    ways = Ways(one)
    wait("datagrams take the direct path", lambda: ways.moved(one, FAST) > 100)
    leave()
    two.wait_ready()
    # Whoever sends to the dead is not to suffer.
    ping(one, one, 20, HOST_ADDRESS, "-i 0.02")
    wait_hooked(one, two)
    fresh((one, two))
    one.run(": >/tmp/stop")
    note(f"{leave.__name__}: {blast.end()}")
    check(boot_ids((one,)) == before, f"{one.name} was started again")
    transfer(one, two, 4)


def gone(one, two):
    """While a guest is away: the other one goes on, no endpoint is left."""
    tap = two.tap
    wait(f"the endpoint of {tap} goes away", lambda: tap not in endpoints())
    ping(one, one, 20, HOST_ADDRESS, "-i 0.02")


def reboot(one, two):
    def rebooted():
        two.machine.qmp("set-action", reboot="reset")
        two.send("reboot -f")
    survive(one, two, rebooted)
    two.machine.qmp("set-action", reboot="shutdown")


def poweroff(one, two):
    def powered_off():
        two.send("poweroff -f")
        machine = two.machine
        with contextlib.suppress(GuestError):
            wait("QEMU ends", lambda: machine.process.poll() is not None)
        two.stop()
        gone(one, two)
        two.start()
    survive(one, two, powered_off)


def kill(one, two):
    def killed():
        two.stop(signal.SIGKILL)
        gone(one, two)
        two.start()
    survive(one, two, killed)


CASES = (direct_off, ping_ipv4, ping_ipv6, arp_flush, dhcp, tcp, udp, files,
         jumbo, vlan, offloads, throughput, reload, migrate_live, migrate_file,
         reboot, poweroff, kill)


def insert():
    ko = os.environ.get("CROSSTALK_KO")
    if ko:
        host("insmod", ko, "direct=1")
    else:
        host("modprobe", "vhost_crosstalk", "direct=1")


def wait_hooked(*guests):
    def hooked():
        found = endpoints()
        return all(g.tap in found and found[g.tap]["state"] == "hooked" and
                   int(found[g.tap]["pid"]) == g.pid for g in guests)
    wait("the guests' devices are hooked", hooked)


class Run:
    """The guests, and the cases one after the other."""

    def __init__(self, options):
        logs = os.path.join(options.logs, "guests")
        shutil.rmtree(logs, ignore_errors=True)
        self.setup = Setup(options.kernel, options.initramfs, logs, BRIDGE,
                           memory=256, ipv6=True,
                           ram_dir=os.environ.get("CROSSTALK_GUEST_RAM", ""),
                           append=NO_ZEROING)
        self.guests = [Guest(n, self.setup) for n in (1, 2)]
        self.crashes = 0
        self.number = 0
        self.failed = 0

    def begin(self):
        add_bridge(BRIDGE)
        host("ip", "addr", "add", f"{HOST_ADDRESS}/24", "dev", BRIDGE)
        if not module_loaded():
            insert()
        direct(1)

    def start(self):
        for guest in self.guests:
            guest.start()
        for guest in self.guests:
            guest.wait_ready()
        wait_hooked(*self.guests)
        fresh(self.guests)

    def stop(self):
        for guest in self.guests:
            guest.stop()

    def crashed(self, error, what):
        """Whether to try again: once in a run, and never in silence."""
        self.crashes += 1
        note(f"{what}: crash {self.crashes}: {error}")
        self.show(error)
        return self.crashes == 1

    @staticmethod
    def show(error):
        """What the module did so far, and what the guest's kernel said."""
        state = "not loaded"
        if module_loaded():
            state = ", ".join(
                f"{dev} rx_fast_packets {ep['rx_fast_packets']}"
                for dev, ep in endpoints().items()) or "no endpoints"
        note(f"direct={read(f'{SYSFS}/direct', '-')}; {state}")
        for line in error.report:
            note(f"    {line.rstrip()}")

    def attempt(self, what, action):
        """Returns None, or what went wrong."""
        while True:
            try:
                action()
                return None
            except GuestCrash as error:
                if not self.crashed(error, what):
                    return str(error)
                note(f"RETRY: {what}: {error}; once more, with new guests")
            except GuestHang as error:
                self.show(error)
                return str(error)
            except GuestError as error:
                return str(error)
            self.stop()

    def case(self, function):
        name = function.__name__
        began = time.monotonic()

        def action():
            if not self.guests[0].machine or not self.guests[1].machine:
                self.start()
            function(*self.guests)
        error = self.attempt(name, action)
        self.number += 1
        if error:
            self.failed += 1
            note(f"FAILED: {error}")
            # Whatever state they are in, the next case gets new ones.
            self.stop()
            if not module_loaded():
                insert()
            direct(1)
        note(f"{name}: {time.monotonic() - began:.1f} s")
        print(f"{'not ' if error else ''}ok {self.number} {name}", flush=True)

    def all(self, cases):
        print(f"TAP version 13\n1..{len(cases)}", flush=True)
        began = time.monotonic()
        was_loaded = module_loaded()
        try:
            self.begin()
            error = self.attempt("start", self.start)
            if error:
                raise GuestError(f"the guests do not start: {error}")
            note(f"two guests are up after {time.monotonic() - began:.0f} s")
            for function in cases:
                self.case(function)
        finally:
            self.stop()
            with contextlib.suppress(GuestError):
                for dev in ("tap1", "tap2", "tap2b", BRIDGE):
                    if os.path.exists(f"/sys/class/net/{dev}"):
                        host("ip", "link", "del", dev)
                if module_loaded() and not was_loaded:
                    host("rmmod", "vhost_crosstalk")
        note(f"{self.crashes} crashes of guests' kernels, "
             f"{time.monotonic() - began:.0f} s")
        note(f"Totals: pass:{self.number - self.failed} fail:{self.failed} "
             "xfail:0 xpass:0 skip:0 error:0")
        return 1 if self.failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", required=True,
                        help="what the guests boot (an ELF, or a bzImage)")
    parser.add_argument("--initramfs", required=True,
                        help="theirs, from make-initramfs")
    parser.add_argument("--logs", required=True,
                        help="directory for the guests' consoles")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f.__name__ for f in CASES))
        return 0
    unknown = set(options.cases) - {f.__name__ for f in CASES}
    if unknown:
        parser.error(f"no case is called {', '.join(unknown)}; see --list")
    cases = [f for f in CASES
             if not options.cases or f.__name__ in options.cases]
    try:
        load_kvm()
    except GuestError as error:
        print(f"TAP version 13\n1..0 # SKIP {error}")
        return 4
    try:
        return Run(options).all(cases)
    except GuestError as error:
        note(f"FAILED: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
