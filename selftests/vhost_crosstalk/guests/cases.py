#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Real guests over the direct path: the cases of test_guests.sh.

Two Linux guests are started once, and most cases run in them; then three with RAM
on guestram, for those of remap_cases.py. Each case asks the module's counters
whether its frames went the way that they were to go, so that nothing passes
because the bridge did the work.
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
                      GuestError, GuestHang, Setup, Unlucky, add_bridge,
                      boot_ids, echo_replies, endpoints, host, iperf3,
                      load_kvm, lost_pings, module_loaded, parse_iperf3,
                      parse_ping, ping, read, snmp, where_lost)
from remap_cases import FIGURES, REMAP, large_frames
from steps import (HOST_ADDRESS, MBIT, Guestram, Job, Ways, check, direct,
                   endpoint, expect, frames_of, fresh, gone, insert, move,
                   note, remap, streamed, transfer, wait, wait_hooked)

BRIDGE = "guestbr"
# Pages that a guest's kernel zeroes before it posts them get into the dirty log
# by that, whatever is written to them afterwards is logged or not.
NO_ZEROING = "init_on_alloc=0"
QUICK = "CROSSTALK_QUICK" in os.environ
# How often guests crash, in emulation, until there is no more to be tried
RETRIES = 2
# How often a case is tried whose frames may have been unlucky
TRIES = 3
# Why a case does not run; scripts/check knows the words
LATE = "no time was left"


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
        ways.fast(frames_of(rate * MBIT * 2), source)
        # Acknowledgements, and what iperf3 has to say
        ways.fast(10, target)
        note(f"tcp: {source.name} to {target.name}: {rate:.0f} Mbit/s; {ways}")


def wrong_checksums(guest):
    """Datagrams and segments that its kernel refused for their contents."""
    return sum(snmp(guest, p, "InCsumErrors") for p in ("Udp", "Tcp"))


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
    expect(sent >= 50 and lost <= sent / 50,
           f"{lost} of {sent} datagrams of iperf3 were lost")
    ways.fast(sent * 2 // 3)

    ways = Ways(one, two)
    wrong = [wrong_checksums(g) for g in (one, two)]
    sinks = [Job(g, "guest_io sink 5001 3") for g in (one, two)]
    for guest in (one, two):
        wait(f"{guest.name} receives datagrams", lambda g=guest: g.run(
            "grep -c ' [0-9A-F]*:1389 ' /proc/net/udp6; true").strip() != "0")
    blasts = [Job(g, f"guest_io blast {other.address} 5001 3 1500")
              for g, other in ((one, two), (two, one))]
    sent = [int(job.end().split()[0]) for job in blasts]
    got = [int(job.end().split()[0]) for job in reversed(sinks)]
    note(f"udp: iperf3 {lost} of {found.group(2)} lost; numbered datagrams "
         f"{got} of {sent}; {ways}")
    for g, before in zip((one, two), wrong):
        check(wrong_checksums(g) == before,
              f"wrong checksums in {g.name}: {where_lost(g)}")
    for n, m, g in zip(got, sent, (two, one)):
        expect(n >= m * 0.98, f"only {n} of {m} datagrams came to {g.name}: "
               f"{where_lost(g)}")
    for g, n in zip((one, two), sent):
        ways.fast(n * 2 // 3, g)


def files(one, two):
    ways = Ways(one, two)
    transfer(one, two, 24 if FIGURES else 8)
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
        sent = streamed(one, "10.7.0.2", 7)
        job.end()
        ways.fast(frames_of(sent), one)
        ways.fast(3, two)
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
            sent = streamed(one, two.address, 8)
            job.end()
            note(f"offloads: sender '{tx}', receiver '{rx}': {ways}")
            if fast:
                ways.fast(frames_of(sent), one)
            else:
                # GSO frames that the receiver's tap has to cut
                check(ways.moved(one, SLOW) >= frames_of(sent),
                      "frames that the receiver cannot take did not go by "
                      f"its tap: {ways}")
    finally:
        one.run(f"ethtool -K eth0 {everything}")
        two.run("ethtool -K eth0 rx-gro-hw on")


def throughput(one, two):
    """TCP with and without the direct path, by turns.

    What else the host does can make a few rounds say anything: there are more
    of them then.
    """
    seconds, rounds = (2, 3) if QUICK else (3, 5)
    ratios = []
    while len(ratios) < rounds or (len(ratios) < 3 * rounds and
                                   statistics.median(ratios) <= 1):
        rate = {}
        for value in ((0, 1), (1, 0))[len(ratios) % 2]:
            direct(value)
            if value:
                fresh((one, two))
            ways = Ways(one, two)
            rate[value] = iperf3(one, two, seconds)
            least = frames_of(rate[value] * MBIT * seconds)
            if value:
                ways.fast(least, one)
            else:
                ways.slow(least, one)
        ratios.append(rate[1] / rate[0])
        note(f"throughput: direct=0 {rate[0]:.0f} Mbit/s, direct=1 "
             f"{rate[1]:.0f} Mbit/s, ratio {ratios[-1]:.2f}")
    note(f"RESULT: TCP from guest to guest, direct=1 over direct=0 in "
         f"wall time, {len(ratios)} rounds of {seconds} s: median "
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
    answered = echo_replies(one)
    pings = Job(one, f"ping -c 40 -i 0.2 -W 20 {two.address}; true")
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
    lost, _ = lost_pings(one, 40, pings.end(), answered)
    check(not lost, f"{lost} pings were lost: {where_lost(one)}")
    one.run(f": >{stop}")
    sent, got = stream.end(), verify.end()
    check(sent == got, f"sent {sent}, received {got}")


def migrate_live(one, two):
    move(one, two, False)


def migrate_file(one, two):
    move(one, two, True)


def suspend(one, two):
    """A guest that is paused, and goes on, answers what was sent meanwhile."""
    answered = echo_replies(one)
    pings = Job(one, f"ping -c 20 -i 0.02 -W 20 {two.address}; true")
    two.machine.qmp("stop")
    time.sleep(3)
    check(endpoint(two)["state"] != "hooked", "vhost serves a paused guest")
    two.machine.qmp("cont")
    lost, _ = lost_pings(one, 20, pings.end(), answered)
    # QEMU takes one frame from the tap of a guest that it has paused, and drops
    # it in virtio_net_vhost_status(); without this module, too.
    check(lost <= 1, f"{lost} pings were lost: {where_lost(one)}")
    wait_hooked(one, two)
    fresh((one, two))
    transfer(one, two, 4)


def survive(one, two, leave):
    """A guest goes away and comes back while the other one sends to it."""
    one.run("rm -f /tmp/stop")
    before = boot_ids((one,))
    # More than a slow machine takes would be dropped in the guest, with others'.
    blast = Job(one, f"guest_io blast {two.address} 5001 /tmp/stop "
                     f"{500 // SLOWNESS}")
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


class Lab:
    """Guests that are started together, and the cases that run in them."""

    def __init__(self, setup, guests, cases):
        self.setup = setup
        self.guests = guests
        self.cases = cases

    def missing(self):
        """Why its cases cannot run here; else they can."""
        return None

    def start(self):
        self.stop()
        for guest in self.guests:
            guest.start()
        for guest in self.guests:
            guest.wait_ready()
        wait_hooked(*self.guests)
        fresh(self.guests[:2])

    def stop(self):
        for guest in self.guests:
            guest.stop()

    def try_again(self):
        """Makes it more likely that a case can show what it is to show."""

    def end(self):
        self.stop()


class Sharing(Lab):
    """Three guests with RAM on guestram, of which whole pages are shared."""

    def __init__(self, setup, guests, cases):
        super().__init__(setup, guests, cases)
        self.guestram = Guestram(setup.ram_dir)

    def missing(self):
        try:
            self.guestram.mount()
        except GuestError as error:
            return str(error)
        return None

    def start(self):
        remap(1)
        super().start()
        if not FIGURES:
            self.try_again()

    def try_again(self):
        note("from now on the guests' TCP makes large frames at any rate")
        for guest in self.guests:
            if guest.machine:
                large_frames(guest)

    def end(self):
        super().end()
        self.guestram.unmount()


PLAIN = (direct_off, ping_ipv4, ping_ipv6, arp_flush, dhcp, tcp, udp, files,
         jumbo, vlan, offloads, throughput, reload, suspend, migrate_live,
         migrate_file, reboot, poweroff, kill)
CASES = PLAIN + REMAP


def is_late():
    """Whoever waits for the results has no time for more, see scripts/check."""
    until = os.environ.get("CROSSTALK_UNTIL")
    return bool(until) and time.time() >= float(until)


class Run:
    """The cases, one after the other."""

    def __init__(self, options):
        self.logs = os.path.join(options.logs, "guests")
        shutil.rmtree(self.logs, ignore_errors=True)
        self.options = options
        self.lab = None
        self.began = time.monotonic()
        self.crashes = 0
        self.retried = []
        self.number = 0
        self.failed = 0
        self.skipped = 0

    def labs(self, cases):
        """Those that are needed."""
        def setup(**more):
            return Setup(self.options.kernel, self.options.initramfs,
                         self.logs, BRIDGE, ipv6=True, append=NO_ZEROING,
                         **more)

        plain = setup(memory=256,
                      ram_dir=os.environ.get("CROSSTALK_GUEST_RAM", ""))
        shared = setup(memory=192, ram_dir=f"{plain.run}/guestram",
                       devices=("-device", "virtio-balloon-pci,id=balloon"))
        labs = (Lab(plain, [Guest(n, plain) for n in (1, 2)],
                    [f for f in PLAIN if f in cases]),
                Sharing(shared, [Guest(n, shared) for n in (4, 5, 6)],
                         [f for f in REMAP if f in cases]))
        return [lab for lab in labs if lab.cases]

    @staticmethod
    def begin():
        add_bridge(BRIDGE)
        host("ip", "addr", "add", f"{HOST_ADDRESS}/24", "dev", BRIDGE)
        if not module_loaded():
            insert()
        direct(1)

    def crashed(self, error, what):
        """Whether to try again: so often with these guests, never in silence."""
        self.crashes += 1
        note(f"{what}: crash {self.crashes}: {error}")
        self.show(error)
        self.retried.append(self.lab)
        return self.retried.count(self.lab) <= RETRIES

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
        tries = 1
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
            except Unlucky as error:
                if tries == TRIES:
                    return f"{error} (the last of {tries} tries)"
                note(f"RETRY: {what}: try {tries}: {error}; once more")
                tries += 1
                self.lab.try_again()
                continue
            except GuestError as error:
                return str(error)
            self.lab.stop()

    def skip(self, function, reason):
        self.skipped += 1
        self.result(function.__name__, True, f" # SKIP {reason}")

    def result(self, name, ok, skip=""):
        self.number += 1
        self.failed += not ok
        print(f"{'ok' if ok else 'not ok'} {self.number} {name}{skip}",
              flush=True)

    def case(self, function):
        name = function.__name__
        began = time.monotonic()

        def action():
            if not all(g.machine for g in self.lab.guests):
                self.lab.start()
            function(*self.lab.guests)
        error = self.attempt(name, action)
        if error:
            # In one line, because that is what scripts/check shows.
            note(f"FAILED: {' | '.join(error.splitlines())}")
            # Whatever state they are in, the next case gets new ones.
            self.lab.stop()
            if not module_loaded():
                insert()
            direct(1)
        note(f"{name}: {time.monotonic() - began:.1f} s")
        self.result(name, not error)

    def lab_cases(self, lab):
        began = time.monotonic()
        self.lab = lab
        reason = LATE if is_late() else lab.missing()
        if reason:
            for function in lab.cases:
                self.skip(function, reason)
            return
        error = self.attempt("start", lab.start)
        if error:
            raise GuestError(f"the guests do not start: {error}")
        note(f"{len(lab.guests)} guests are up after "
             f"{time.monotonic() - began:.0f} s")
        for function in lab.cases:
            if is_late():
                self.skip(function, LATE)
            else:
                self.case(function)

    def all(self, cases):
        print(f"TAP version 13\n1..{len(cases)}", flush=True)
        was_loaded = module_loaded()
        labs = self.labs(cases)
        try:
            self.begin()
            for lab in labs:
                try:
                    self.lab_cases(lab)
                finally:
                    lab.end()
        finally:
            with contextlib.suppress(GuestError):
                taps = [g.first_tap for lab in labs for g in lab.guests]
                for dev in (*taps, *(f"{tap}b" for tap in taps), BRIDGE):
                    if os.path.exists(f"/sys/class/net/{dev}"):
                        host("ip", "link", "del", dev)
                if module_loaded() and not was_loaded:
                    host("rmmod", "vhost_crosstalk")
        note(f"{self.crashes} crashes of guests' kernels, "
             f"{time.monotonic() - self.began:.0f} s")
        note("Totals: "
             f"pass:{self.number - self.failed - self.skipped} "
             f"fail:{self.failed} xfail:0 xpass:0 skip:{self.skipped} error:0")
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
