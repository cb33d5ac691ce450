# SPDX-License-Identifier: GPL-2.0
"""What the cases of test_guests.sh are made of."""

import contextlib
import os
import re
import time

from machines import (FAST, SLOW, SLOWNESS, SYSFS, Guest, GuestError, Machine,
                      Unlucky, boot_ids, endpoints, host, module_loaded,
                      moving, parse_ping, ping, write)

MB = 1 << 20
# Bytes a second
MBIT = 1000 * 1000 // 8
# The bridge's own address: a peer that is no guest
HOST_ADDRESS = "10.0.0.254"
GUESTRAM_NAME = "vhost_crosstalk_guestram"
GUESTRAM = f"/sys/module/{GUESTRAM_NAME}"
VHOST_F_LOG_ALL = 1 << 26


def note(text):
    """A line that a person may want to read; no result."""
    print(f"# {text}", flush=True)


def check(condition, text):
    if not condition:
        raise GuestError(text)


def expect(condition, text):
    """The same for what is not in our hands alone: see Unlucky."""
    if not condition:
        raise Unlucky(text)


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


def remap(value):
    write(f"{SYSFS}/remap", value)


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
            expect(fast >= least and fast >= 2 * slow,
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
        guest.run(f"({{ {command}; }} >{self.base}.out 2>&1; echo $? "
                  f">{self.base}.new; mv {self.base}.new {self.base}.rc) "
                  ">/dev/null 2>&1 &")

    def end(self, seconds=60):
        """Waits for it; its output, if it was successful."""
        seconds *= SLOWNESS
        output = self.guest.run(
            f"n={seconds * 10}; while [ ! -e {self.base}.rc -a $n -gt 0 ]; "
            f"do usleep 100000; n=$((n - 1)); done; cat {self.base}.out; "
            f"echo; cat {self.base}.rc || {{ for p in $(pidof guest_io iperf3); "
            "do cat /proc/$p/wchan; echo \" $p\"; cat /proc/$p/syscall; done; "
            "cat /proc/net/snmp /proc/net/udp; echo none; }",
            seconds + 30)
        output, status = output.rstrip().rsplit("\n", 1)
        if status != "0":
            raise GuestError(f"'{self.command}' in {self.guest.name}: status "
                             f"{status}: {output.strip()[-3000:]}\n{moving()}")
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


def frames_of(size):
    """Most of the frames that so many bytes of TCP take, however large they are.

    How much a guest sends within some seconds says nothing but what else its
    host does.
    """
    return max(int(size / (64 << 10) * 2 / 3), 3)


def streamed(source, address, seed):
    """Known data by TCP for a second; returns the bytes."""
    output = source.run(f"guest_io stream {address} 5001 1 {seed}", 120)
    return int(output.split()[0])


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


def insert():
    ko = os.environ.get("CROSSTALK_KO")
    if ko:
        host("insmod", ko, "direct=1")
    else:
        host("modprobe", "vhost_crosstalk", "direct=1")


class Guestram:
    """A mount of guestram; its module is loaded for it, and removed."""

    def __init__(self, directory):
        self.directory = directory
        self.was_loaded = os.path.isdir(GUESTRAM)

    def mount(self):
        ko = os.environ.get("CROSSTALK_GUESTRAM_KO")
        if not self.was_loaded:
            host(*(("insmod", ko) if ko else
                   ("modprobe", "-q", GUESTRAM_NAME)))
        os.makedirs(self.directory, exist_ok=True)
        host("mount", "-t", "guestram", "guestram", self.directory)

    def unmount(self):
        """No guest uses it any more."""
        if os.path.ismount(self.directory):
            host("umount", self.directory)
        # The remapper holds the module.
        if module_loaded():
            remap("off")
        if os.path.isdir(GUESTRAM) and not self.was_loaded:
            host("rmmod", GUESTRAM_NAME)


def wait_hooked(*guests):
    def hooked():
        found = endpoints()
        return all(g.tap in found and found[g.tap]["state"] == "hooked" and
                   int(found[g.tap]["pid"]) == g.pid for g in guests)
    wait("the guests' devices are hooked", hooked)


def gone(one, two):
    """While a guest is away: the other one goes on, no endpoint is left."""
    tap = two.tap
    wait(f"the endpoint of {tap} goes away", lambda: tap not in endpoints())
    ping(one, one, 20, HOST_ADDRESS, "-i 0.02")


class Migration:
    """A guest on its way from one QEMU to another, directly or by a file."""

    def __init__(self, guest, to_file, mb_per_second):
        self.guest = guest
        self.mb_per_second = mb_per_second
        self.to_file = to_file
        self.path = f"{guest.setup.run}/migration"
        self.source = guest.machine
        self.target = None
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def begin(self):
        """Starts it; slow_down() keeps it from coming to its end."""
        uri = f"exec:cat >{self.path}"
        if not self.to_file:
            uri = f"unix:{self.path}"
            tap = f"{self.guest.tap}b"
            self.guest.add_tap(tap)
            self.target = Machine(self.guest, tap, ("-incoming", uri))
            wait("the other QEMU listens",
                 lambda: os.path.exists(self.path))
        self.source.qmp("migrate-set-parameters",
                        max_bandwidth=self.mb_per_second * MB,
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

    def slow_down(self):
        """Slower than any guest that is at work writes to its memory."""
        self.source.qmp("migrate-set-parameters", max_bandwidth=MB // 4)

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
    got = two.tap_counters()
    # All memory was sent once: what comes now must be sent again.
    wait("the second pass over the guest's memory",
         lambda: migration.passes() >= 2, 60)
    migration.slow_down()
    sender = Job(one, f"guest_io send {two.address} 5002 /tmp/held")
    queued = "awk '$2 ~ /:138A$/ && $4 != \"0A\" { print $5 }' " \
             "/proc/net/tcp /proc/net/tcp6 | cut -d: -f2"
    wait("received data waits in the guest's socket",
         lambda: int(two.run(queued).strip() or "0", 16) >= held_mb * MB,
         60)
    check(migration.passes(), "the migration ended too early")
    now = two.tap_counters()
    got, size = now["got"] - got["got"], now["got_bytes"] - got["got_bytes"]
    check(size >= held_mb * MB,
          f"only {size} bytes came while the dirty log was on")
    wait("the verdict says why", lambda:
         re.search(rf"{one.mac} {two.mac} 0 migration ",
                   endpoint(one)["verdicts"]))
    check(endpoint(two)["rx_fast_packets"] == fast,
          "frames were placed in a guest's memory while its dirty log was "
          f"on: {fast} and now {endpoint(two)['rx_fast_packets']}")
    return sender, got


def move(one, two, to_file, base_mb=32, mb_per_second=16):
    """Migrates a guest while the other one sends to it.

    What was received while the dirty log is on must be in its memory
    afterwards. Most of that waits in socket buffers, where only vhost or the
    module has written it: a program that copied it would have it logged by KVM.
    """
    ids = boot_ids((one, two))
    held_mb = 4
    two.run(f"guest_io fill /tmp/base {base_mb} 21; rm -f /tmp/gate /tmp/moved")
    one.run(f"guest_io fill /tmp/held {held_mb} 22; rm -f /tmp/stop")
    verify = Job(two, "guest_io verify 5001 23")
    held = Job(two, "guest_io recv 5002 /tmp/held /tmp/gate")
    # Else there may be nothing to send again while the stream rests, and the
    # guest is gone, and its shell, before it was asked for anything.
    churn = Job(two, "guest_io churn 4 /tmp/moved 24")
    stream = Job(one, f"guest_io stream {two.address} 5001 /tmp/stop 23")
    ways = Ways(one, two)
    wait("the stream takes the direct path",
         lambda: ways.moved(one, FAST) > 100)

    migration = Migration(two, to_file, mb_per_second)
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

    two.run(": >/tmp/gate; : >/tmp/moved")
    churn.end()
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
    two.run("rm /tmp/base /tmp/held /tmp/moved")
    fresh((one, two))
