# SPDX-License-Identifier: GPL-2.0
"""Cases of test_guests.sh with RAM on guestram, and remapping forced on.

The guests are unmodified. What is shared of what they send depends on where a
sender's payload lies and which buffers a receiver has posted; the cases print
it, and fail if it is little.
"""

import contextlib
import os
import signal

from machines import FAST, SLOW, SLOWNESS, endpoints, iperf3, ping, read
from steps import (GUESTRAM, MB, Job, Ways, check, endpoint, expect, fresh, gone,
                   move, note, remap, transfer, wait)

PAGE = 4096
# A debug kernel's figures are nobody's: there it is enough that pages are shared.
FIGURES = SLOWNESS <= 4
# At least that part of all bytes must have gone without a copy, and so many pages.
LEAST_SHARED, LEAST_PAGES = (0.5, 200) if FIGURES else (0.2, 40)
# Pages that are enough to see what becomes of shared ones
SOME_PAGES = 50
# How much is sent where that is measured
MUCH_MB = 16 if FIGURES else 4
U64 = (1 << 64) - 1


class Shares(Ways):
    """Which part of what the guests sent was shared since this was made."""

    def share(self, guest):
        return self.moved(guest, "tx_remap_bytes") / \
            max(self.moved(guest, "tx_fast_bytes"), 1)

    def pages(self, guest):
        return self.moved(guest, "tx_remap_pages")

    def tell(self, guest):
        return (f"{guest.name} {100 * self.share(guest):.1f} % of "
                f"{self.moved(guest, 'tx_fast_bytes') / MB:.1f} MB shared, "
                f"{self.pages(guest)} pages in {self.moved(guest, FAST)} "
                f"frames ({self.moved(guest, SLOW)} slow); touched "
                f"{self.moved(guest, 'tx_remap_faults')} of those sent, "
                f"{self.moved(guest, 'rx_remap_faults')} of those received")

    def much(self, *senders, least=LEAST_SHARED):
        for g in senders:
            expect(self.pages(g) >= LEAST_PAGES and self.share(g) >= least,
                   f"too little was shared, want {100 * least:.0f} %: "
                   f"{self.tell(g)}; verdicts: {endpoint(g)['verdicts']}")

    def some(self, *senders):
        for g in senders:
            expect(self.pages(g) >= SOME_PAGES,
                   f"nearly nothing was shared: {self.tell(g)}")


def frames():
    """Pages of memory in all files of guestram."""
    return int(read(f"{GUESTRAM}/parameters/frames"))


def used_slots(guest):
    """Pages that the mount counts as used."""
    stat = os.statvfs(guest.setup.ram_dir)
    return stat.f_blocks - stat.f_bfree


def large_frames(guest):
    """TCP makes frames of a millisecond's data: at a slow rate, of no whole page."""
    guest.run("echo 40 >/proc/sys/net/ipv4/tcp_min_tso_segs")


class Background:
    """Known data from one guest to another, as long as the block lasts."""

    count = 0

    def __init__(self, source, target):
        Background.count += 1
        self.source, self.target = source, target
        self.seed = 30 + Background.count
        self.until = f"/tmp/until{self.seed}"

    def __enter__(self):
        port = 5100 + self.seed
        self.verify = Job(self.target, f"guest_io verify {port} {self.seed}")
        self.stream = Job(self.source, f"guest_io stream {self.target.address} "
                                       f"{port} {self.until} {self.seed}")
        return self

    def __exit__(self, kind, *_):
        if kind:
            return
        self.source.run(f": >{self.until}")
        sent, got = self.stream.end(), self.verify.end()
        check(sent == got, f"sent {sent}, received {got}")


def remap_tcp(one, two, _):
    """How much of a TCP stream between stock guests goes without a copy."""
    for source, target in ((one, two), (two, one)):
        # The first frames make the receiver's kernel post whole pages.
        iperf3(source, target, mb=MUCH_MB // 2)
        shares = Shares(one, two)
        rate = iperf3(source, target, mb=MUCH_MB)
        note(f"RESULT: remapping forced on, TCP, {rate:.0f} Mbit/s: "
             f"{shares.tell(source)}; {shares.tell(target)}")
        shares.much(source)


def remap_files(one, two, _):
    """Files both ways, while both write to pages that they got and gave back."""
    shares = Shares(one, two)
    jobs = [Job(g, f"guest_io churn 16 /tmp/until {n}")
            for n, g in enumerate((one, two), 5)]
    transfer(one, two, 12 if FIGURES else 6)
    for guest in (one, two):
        guest.run(": >/tmp/until")
    for job in jobs:
        job.end()
    for guest in (one, two):
        guest.run("rm /tmp/until")
        note(f"files: {shares.tell(guest)}")
    shares.some(one, two)


def balloon(guest, mb):
    guest.machine.qmp("balloon", value=mb * MB)
    wait(f"the balloon leaves {mb} MB to {guest.name}", lambda:
         guest.machine.qmp("query-balloon")["actual"] == mb * MB, 60)


def remap_balloon(one, two, _):
    """Memory is given back, and taken again, while pages are shared."""
    memory = two.setup.memory
    two.run("for m in /modules/later/*balloon*; do insmod $m 2>/dev/null; "
            "done; true")
    # What is given back has been in use.
    two.run("guest_io tag 80 1", 120)
    shares = Shares(one, two)
    with Background(one, two), Background(two, one):
        before = used_slots(two)
        balloon(two, memory - 64)
        left = used_slots(two)
        balloon(two, memory)
        wait("pages are shared", lambda: shares.pages(one) > LEAST_PAGES and
             shares.pages(two) > LEAST_PAGES)
    note(f"balloon: {before} pages, then {left}; {shares.tell(one)}; "
         f"{shares.tell(two)}")
    check(left < before - 32 * MB // PAGE,
          f"{before} pages before, and {left} after 64 MB were given back")


def remap_migrate(one, two, _):
    """A guest moves to another QEMU; pages are shared before and afterwards."""
    transfer(one, two, 2)
    move(one, two, False, 8, 32)
    shares = Shares(one, two)
    with Background(one, two), Background(two, one):
        wait("pages are shared afterwards, too", lambda:
             min(shares.pages(one), shares.pages(two)) >= SOME_PAGES)
    for guest in (one, two):
        note(f"migration: afterwards {shares.tell(guest)}")


@contextlib.contextmanager
def routed(one, router, three):
    """What one and three send each other goes by way of the router."""
    forward = ("echo {} >/proc/sys/net/ipv4/ip_forward; for d in all eth0; do "
               "echo {} >/proc/sys/net/ipv4/conf/$d/send_redirects; done")
    router.run(forward.format(1, 0))
    routes = [(g, f"{other.address}/32 via {router.address}")
              for g, other in ((one, three), (three, one))]
    for guest, route in routes:
        guest.run(f"ip route add {route}")
    try:
        ping(one, three, 10, options="-i 0.02")
        fresh((one, router))
        fresh((router, three))
        yield
    finally:
        for guest, route in routes:
            guest.run(f"ip route del {route}")
        router.run(forward.format(0, 1))


def remap_route(one, router, three):
    """A Linux guest forwards what it does not look at: nothing is copied."""
    with routed(one, router, three):
        iperf3(one, three, mb=MUCH_MB // 2)
        before = router.tap_counters()
        shares = Shares(one, router, three)
        rate = iperf3(one, three, mb=2 * MUCH_MB)
        pages = shares.pages(one)
        touched = shares.moved(router, "rx_remap_faults")
        # Buffers for what was copied had a shared page before. A piece that
        # is no whole page has one of its own.
        got = {key: value - before[key]
               for key, value in router.tap_counters().items()}
        copied = (got["got_bytes"] - PAGE * pages) / PAGE + 2 * got["got"]
        note(f"RESULT: remapping forced on, TCP by way of a guest, "
             f"{rate:.0f} Mbit/s: {shares.tell(one)}; {shares.tell(router)}; "
             f"{shares.tell(three)}; pages that the router got, and that it "
             f"touched or that were its next buffers for less than a page: "
             f"{touched} of {pages}")
        shares.much(one, router)
        expect(shares.pages(router) >= 0.9 * pages or not FIGURES,
               f"the router got {pages} shared pages, and of those that it sent "
               f"on only {shares.pages(router)} were")
        expect(touched <= copied + pages / 20 or not FIGURES,
               f"the router has touched {touched} of {pages} pages, no more "
               f"than {copied:.0f} for the sake of what was copied")
        shares = Shares(one, router, three)
        with Background(one, three):
            wait("the stream is shared on both ways", lambda:
                 shares.pages(one) > 5 * LEAST_PAGES and
                 shares.pages(router) > 5 * LEAST_PAGES)


def tag(seed):
    """The word that "guest_io tag" fills memory with, as it lies there."""
    x = (0x9e3779b97f4a7c15 ^ seed << 32) & U64
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9 & U64
    return (x ^ x >> 32).to_bytes(8, "little")


def find_tags(guest, own, tags):
    """Whether the guest's RAM has its own tag, and which of the others it has.

    The RAM is read from its file.
    """
    fds = f"/proc/{guest.pid}/fd"
    path = next((f"{fds}/{fd}" for fd in os.listdir(fds) if
                 os.readlink(f"{fds}/{fd}").startswith(guest.setup.ram_dir)),
                None)
    check(path, f"QEMU of {guest.name} has no file in {guest.setup.ram_dir}")
    found = set()
    left = 0
    with open(path, "rb", buffering=0) as ram:
        while True:
            piece = ram.read(2 * MB)
            if not piece:
                return left, found
            if left < MB // 8:
                left += piece.count(own)
            found.update(seed for seed, word in tags.items() if word in piece)


def remap_canary(one, two, three):
    """What was in a page before it was shared is in no other guest's RAM."""
    guests = {1001: one, 1002: two, 1003: three}
    for seed, guest in guests.items():
        guest.run(f"guest_io tag 32 {seed}", 120)
    shares = Shares(one, two, three)
    transfer(one, two, 6)
    with routed(one, three, two):
        transfer(one, two, 3)
        # At a slow rate TCP's frames are small, and the router shares few.
        for _ in range(3):
            if shares.pages(three) >= SOME_PAGES:
                break
            for guest in (one, two):
                large_frames(guest)
            transfer(one, two, 3)
    for seed, guest in guests.items():
        left, found = find_tags(guest, tag(seed), {
            other: tag(other) for other in guests if other != seed})
        check(left >= MB // 8, f"{guest.name}'s own tag was overwritten, so "
              "that others may have been, too: nothing is known")
        check(not found, f"{guest.name}'s RAM has what was in pages of "
              f"{', '.join(guests[s].name for s in found)} before")
    shares.some(one, two, three)


def remap_adaptive(_, two, three):
    """Guests that touch what they send and get are found out, and copied.

    These two rest for some thousand frames then, also when it is forced again.
    """
    remap("adaptive")
    try:
        iperf3(two, three, mb=MUCH_MB)
        shares = Shares(two, three)
        rate = iperf3(two, three, mb=2 * MUCH_MB)
        note(f"RESULT: remapping adaptive, TCP, {rate:.0f} Mbit/s: "
             f"{shares.tell(two)}")
        expect(shares.share(two) < LEAST_SHARED / 2,
               f"too much was shared: {shares.tell(two)}; {shares.tell(three)}")
    finally:
        remap(1)


def remap_kill(one, two, three):
    """QEMU is killed while pages are shared: the other one lives on."""
    one.run("rm -f /tmp/until")
    Job(two, "guest_io verify 5001 41")
    Job(one, f"guest_io stream {two.address} 5001 /tmp/until 41")
    shares = Shares(one, two)
    wait("pages are shared", lambda: shares.pages(one) > LEAST_PAGES)
    two.stop(signal.SIGKILL)
    gone(one, two)
    # A page that is being copied has two for a moment.
    wait("no frames are left but those of who lives",
         lambda: frames() <= used_slots(one) + 16)
    one.run(": >/tmp/until; killall guest_io; true")
    transfer(one, three, 4)

    shares = Shares(one, three)
    Job(three, "guest_io verify 5002 42")
    Job(one, f"guest_io stream {three.address} 5002 /tmp/never 42")
    wait("pages are shared", lambda: shares.pages(one) > LEAST_PAGES)
    three.stop(signal.SIGKILL)
    one.stop(signal.SIGKILL)
    wait("no endpoints are left", lambda: not endpoints())
    wait("no memory is left", lambda: not frames() and not used_slots(one))


REMAP = (remap_tcp, remap_files, remap_migrate, remap_route, remap_balloon,
         remap_canary, remap_adaptive, remap_kill)
