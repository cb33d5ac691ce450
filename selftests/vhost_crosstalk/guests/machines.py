# SPDX-License-Identifier: GPL-2.0
"""Real Linux guests on this hypervisor host, and what the module says of them.

Used by the selftest of real guests (cases.py) and by the demo. Guests run stock
QEMU with vhost-net below a bridge; init and make-initramfs make their user
space, a shell on a virtio console. (A second serial port now and then loses
characters while a guest has much traffic, under emulation.)
"""

import atexit
import contextlib
import glob
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import time

SYSFS = "/sys/kernel/vhost_crosstalk"

# An endpoint's counters of frames by the way they went. A module that has no
# such counter has no such way.
SLOW = "tx_slow_packets"
FAST = "tx_fast_packets"

# Emulated machines take longer for everything.
SLOWNESS = int(os.environ.get("CROSSTALK_SLOWNESS", "1"))
BOOT_SECONDS = 60 + 30 * SLOWNESS

# Where a guest's kernel says that it has crashed
CRASH = re.compile(r"\] ((?:BUG|Oops|PANIC|Kernel panic|traps|kernel BUG|"
                   r"general protection fault|watchdog: BUG)[^\r\n]*)")


class GuestError(Exception):
    """Something that should have happened did not; str() says what."""


class Unlucky(GuestError):
    """What can happen to any host that has too little time for its guests.

    Frames go by the tap if their receiver does not run for a while, or get lost
    there. Once it says nothing; each time it says that something is wrong.
    """


class GuestCrash(GuestError):
    """The kernel of a guest crashed; report has the lines that it left."""

    def __init__(self, text, report):
        super().__init__(text)
        self.report = report


class GuestHang(GuestError):
    """A guest did not answer; report has what its kernel said to an NMI."""

    def __init__(self, text, report):
        super().__init__(text)
        self.report = report


def read(path, default=""):
    """A file's content without white space around it."""
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return default


def write(path, text):
    """Writes to a file in sysfs or procfs."""
    try:
        with open(path, "w", encoding="ascii") as f:
            f.write(str(text))
    except OSError as error:
        raise GuestError(f"cannot write '{text}' to {path}: "
                         f"{error.strerror}") from None


def host(*command):
    """Runs a command on the host; it has to succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise GuestError(f"'{' '.join(command)}' failed: {done.stdout.strip()}")
    return done.stdout


def no_ipv6(dev):
    """No strangers' packets in an interface's counters."""
    with contextlib.suppress(GuestError):
        write(f"/proc/sys/net/ipv6/conf/{dev}/disable_ipv6", 1)


def add_bridge(name):
    host("ip", "link", "add", name, "type", "bridge")
    no_ipv6(name)
    host("ip", "link", "set", name, "up")


def load_kvm():
    """Makes /dev/kvm, or says why there is none."""
    if os.path.exists("/dev/kvm"):
        return
    for module in ("kvm_amd", "kvm_intel"):
        if subprocess.run(["modprobe", module], check=False,
                          stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0 and \
                os.path.exists("/dev/kvm"):
            return
    raise GuestError("this host has no KVM (neither kvm_amd nor kvm_intel "
                     "finds its hardware), so it cannot run guests")


class ApicHolder:
    """A machine that never runs, so that KVM does not change its own code.

    While some virtual APIC is disabled, as this one's is for ever, KVM looks
    whether others' are; when the last one is enabled it changes its code back.
    An emulated host with several processors now and then dies of that, at an
    int3 that was there during the change (QEMU's emulator had translated it just
    before it was overwritten), with or without this project's module.
    """

    def __init__(self):
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "pc", "-accel", "kvm", "-m", "16",
             "-nodefaults", "-no-user-config", "-display", "none", "-S"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        # After the guests
        atexit.register(self.stop)

    def stop(self):
        self.process.kill()
        self.process.wait()


def module_loaded():
    return os.path.isdir("/sys/module/vhost_crosstalk")


def endpoints():
    """The module's endpoints by interface; empty when it is not loaded."""
    found = {}
    for path in glob.glob(f"{SYSFS}/endpoints/ep*"):
        files = {name: read(os.path.join(path, name))
                 for name in os.listdir(path)
                 if os.path.isfile(os.path.join(path, name))}
        files["name"] = os.path.basename(path)
        found[files.get("dev", "-")] = files
    return found


def moving(seconds=1):
    """What the module counts in that time: does anything go on?"""
    before = endpoints()
    time.sleep(seconds)
    text = []
    for dev, after in endpoints().items():
        old = before.get(dev, {})
        more = [f"{name} +{int(value) - int(old[name])}"
                for name, value in sorted(after.items())
                if value.isdigit() and old.get(name, "").isdigit() and
                value != old[name]]
        text.append(f"{dev} ({after.get('state', '?')}): "
                    f"{' '.join(more) or 'nothing'}")
    return f"in {seconds} s " + "; ".join(text or ["no endpoint"])


class Setup:
    """What all guests of a run have in common."""

    def __init__(self, vmlinux, initramfs, logs, bridge, memory=192,
                 ipv6=False, ram_dir="", append="", devices=()):
        self.vmlinux = vmlinux
        self.initramfs = initramfs
        self.logs = logs
        self.bridge = bridge
        self.memory = memory
        self.ram_dir = ram_dir
        self.ipv6 = ipv6
        self.append = append
        self.devices = devices
        self.run = f"/run/vhost-crosstalk-{bridge}"
        os.makedirs(self.run, exist_ok=True)
        os.makedirs(logs, exist_ok=True)
        self.holder = None


class Machine:
    """One QEMU: the guest's console, its shell, and QEMU's monitor."""

    count = 0

    def __init__(self, guest, tap, options=()):
        Machine.count += 1
        setup = guest.setup
        self.guest = guest
        self.tap = tap
        base = f"{setup.run}/{guest.name}.{Machine.count}"
        self.shell_path = f"{base}.shell"
        self.monitor_path = f"{base}.monitor"
        name = guest.name if not guest.started else \
            f"{guest.name}-{guest.started + 1}"
        guest.started += 1
        self.log = os.path.join(setup.logs, f"{name}.log")
        self.qemu_log = os.path.join(setup.logs, f"{name}-qemu.log")
        self.pending = b""
        self.answers = b""
        machine, backend = "pc", ()
        if setup.ram_dir:
            machine = "pc,memory-backend=ram"
            backend = ("-object", f"memory-backend-file,id=ram,share=on,"
                                  f"size={setup.memory}M,"
                                  f"mem-path={setup.ram_dir}")
        command = [
            "qemu-system-x86_64", "-name", guest.name, "-M", machine, *backend,
            "-accel", "kvm", "-cpu", "host", "-smp", "1",
            "-m", str(setup.memory),
            "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-serial", f"file:{self.log}",
            "-chardev", f"socket,id=shell,path={self.shell_path},"
                        "server=on,wait=off",
            "-device", "virtio-serial-pci", "-device",
            "virtconsole,chardev=shell",
            "-qmp", f"unix:{self.monitor_path},server=on,wait=off",
            "-kernel", setup.vmlinux, "-initrd", setup.initramfs,
            # RSA's tests alone may take a minute of a boot.
            "-append", "console=ttyS0 quiet panic=-1 unknown_nmi_panic "
                       "mitigations=off cryptomgr.notests "
                       f"{setup.append} "
                       f"guest.address={guest.address}" +
                       (f" guest.address6={guest.address6}"
                        if setup.ipv6 else ""),
            "-netdev", f"tap,id=n0,ifname={tap},script=no,"
                       "downscript=no,vhost=on",
            "-device", f"virtio-net-pci,netdev=n0,romfile=,mac={guest.mac}",
            *setup.devices, *options,
        ]
        with open(self.qemu_log, "w", encoding="ascii") as log:
            # pylint: disable-next=consider-using-with
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        self.channel = self.connect(self.shell_path)
        self.monitor = self.connect(self.monitor_path)
        self.qmp_answer()
        self.qmp("qmp_capabilities")

    def connect(self, path):
        deadline = time.monotonic() + 20 * SLOWNESS
        channel = socket.socket(socket.AF_UNIX)
        while True:
            try:
                channel.connect(path)
                return channel
            except OSError:
                self.check_alive()
                if time.monotonic() > deadline:
                    raise GuestError(f"QEMU of {self.guest.name} does not "
                                     f"open {path}") from None
                time.sleep(0.1)

    def check_alive(self):
        console = read(self.log)
        crash = CRASH.search(console)
        if crash:
            start = console.rfind("\n", 0, crash.start()) + 1
            raise GuestCrash(f"the kernel of {self.guest.name} crashed: "
                             f"{crash.group(1)}; its console: {self.log}",
                             console[start:].splitlines()[:40])
        if self.process.poll() == 0 and not read(self.qemu_log):
            # What a triple fault looks like with -no-reboot
            raise GuestCrash(f"{self.guest.name} has reset itself, and its "
                             "kernel said nothing", console.splitlines()[-10:])
        if self.process.poll() is not None:
            raise GuestError(f"{self.guest.name} is gone (QEMU ended with "
                             f"status {self.process.returncode}): "
                             f"{read(self.qemu_log)[-300:] or 'no message'}")

    def where(self):
        """Where its processor is."""
        try:
            registers = self.qmp("human-monitor-command",
                                 command_line="info registers")
        except GuestError as error:
            return str(error)
        return " ".join(re.findall(r"[RE]IP=\S+|HLT=\S+", registers))

    def report_hang(self, seconds):
        """It does not answer: an NMI makes its kernel say where it is."""
        text = f"{self.guest.name} did not answer within {seconds:.0f} s"
        # Another one may be what it waits for.
        for guest in self.guest.all:
            if guest.machine:
                text += f"; {guest.name} {guest.machine.where()}"
        text += f"; {moving()}"
        with contextlib.suppress(GuestError):
            self.qmp("inject-nmi")
            deadline = time.monotonic() + 5 * SLOWNESS
            while self.process.poll() is None and \
                    time.monotonic() < deadline:
                time.sleep(0.1)
        console = read(self.log)
        crash = CRASH.search(console)
        if crash:
            start = console.rfind("\n", 0, crash.start()) + 1
            raise GuestHang(text, console[start:].splitlines()[:40])
        raise GuestHang(text, console.splitlines()[-10:])

    def qmp_answer(self):
        """One line of the monitor."""
        self.monitor.settimeout(30 * SLOWNESS)
        while b"\n" not in self.answers:
            try:
                data = self.monitor.recv(65536)
            except OSError:
                data = b""
            if not data:
                self.check_alive()
                raise GuestError(f"QEMU of {self.guest.name} does not answer "
                                 "on its monitor")
            self.answers += data
        line, self.answers = self.answers.split(b"\n", 1)
        return json.loads(line)

    def qmp(self, command, **arguments):
        """Runs a command of QEMU's monitor; arguments have _ for -."""
        text = {"execute": command}
        if arguments:
            text["arguments"] = {name.replace("_", "-"): value
                                 for name, value in arguments.items()}
        try:
            self.monitor.sendall(json.dumps(text).encode() + b"\n")
        except OSError:
            self.process.wait(5 * SLOWNESS)
            self.check_alive()
            raise
        while True:
            answer = self.qmp_answer()
            if "error" in answer:
                raise GuestError(f"QEMU of {self.guest.name}: '{command}' "
                                 f"failed: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]

    def stop(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(sig)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10 * SLOWNESS)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self.channel.close()
        self.monitor.close()


class Guest:
    """A guest and the shell on its virtio console.

    Its machine is replaced when it is started again or has migrated.
    """

    all = []

    def __init__(self, number, setup):
        self.all.append(self)
        self.setup = setup
        self.started = 0
        self.name = f"guest{number}"
        self.tap = self.first_tap = f"tap{number}"
        self.mac = f"52:54:00:00:00:{number:02x}"
        self.address = f"10.0.0.{number}"
        self.address6 = f"fd00::{number}"
        self.machine = None

    def add_tap(self, tap):
        if os.path.exists(f"/sys/class/net/{tap}"):
            return
        host("ip", "tuntap", "add", "dev", tap, "mode", "tap", "vnet_hdr")
        no_ipv6(tap)
        host("ip", "link", "set", tap, "master", self.setup.bridge, "up")

    def start(self, *options):
        if not self.setup.holder:
            self.setup.holder = ApicHolder()
        self.add_tap(self.tap)
        self.machine = Machine(self, self.tap, options)

    @property
    def log(self):
        return self.machine.log

    @property
    def pid(self):
        return self.machine.process.pid

    def check_alive(self):
        if self.machine:
            self.machine.check_alive()

    def read_until(self, marker, seconds):
        """Output up to a line that begins with marker, and that line.

        While it waits it looks after all guests: one that crashes keeps the
        other one waiting.
        """
        machine = self.machine
        deadline = time.monotonic() + seconds
        while True:
            found = re.search(rb"(?:^|\n)(" + marker + rb"[^\n]*)\r?\n",
                              machine.pending)
            if found:
                output = machine.pending[:found.start()]
                machine.pending = machine.pending[found.end():]
                return (output.decode(errors="replace"),
                        found.group(1).decode())
            left = deadline - time.monotonic()
            if left <= 0:
                machine.report_hang(seconds)
            machine.channel.settimeout(min(left, 1))
            try:
                data = machine.channel.recv(65536)
            except TimeoutError:
                for guest in self.all:
                    guest.check_alive()
                continue
            if not data:
                # It closes its files before it has ended.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    machine.process.wait(5)
                self.check_alive()
                raise GuestError(f"{self.name} closed its console")
            machine.pending += data

    def wait_ready(self):
        try:
            self.read_until(b"@ready", BOOT_SECONDS)
        except GuestCrash:
            raise
        except GuestHang as error:
            # Nothing was asked of it yet: no case is to blame.
            raise GuestCrash(f"it hung while it booted: {error}; its console: "
                             f"{self.log}", error.report) from None
        except GuestError as error:
            raise GuestError(f"{error}; its console: {self.log}") from None

    def send(self, command):
        try:
            self.machine.channel.sendall(command.encode() + b"\n")
        except OSError:
            self.check_alive()
            raise

    def result(self, command, seconds):
        try:
            output, status = self.read_until(b"@status",
                                             seconds * max(SLOWNESS // 2, 1))
        except GuestHang as error:
            raise GuestHang(f"'{command}': {error}", error.report) from None
        output = output.replace("\r", "")
        if status.split()[1] != "0":
            raise GuestError(f"'{command}' failed in {self.name}: "
                             f"{output.strip()[-300:]}")
        return output

    def run(self, command, seconds=60):
        self.send(command)
        return self.result(command, seconds)

    def stop(self, sig=signal.SIGTERM):
        if self.machine:
            self.machine.stop(sig)
            self.machine = None

    def tap_counters(self):
        """What the guest sent and got, as its tap counts it."""
        base = f"/sys/class/net/{self.tap}/statistics/"
        # What a guest sends is received by its tap.
        return {"sent": int(read(base + "rx_packets", "0")),
                "got": int(read(base + "tx_packets", "0")),
                "got_bytes": int(read(base + "tx_bytes", "0"))}


def boot_ids(guests):
    """Another one for each boot of a guest's kernel."""
    return [g.run("cat /proc/sys/kernel/random/boot_id").strip()
            for g in guests]


def parse_ping(output, sent):
    """Lost packets and the median of the round trips in milliseconds."""
    count = re.search(r"(\d+) packets transmitted, (\d+) packets received",
                      output)
    if not count or int(count.group(1)) != sent:
        raise GuestError(f"cannot read ping's output: {output.strip()[-200:]}")
    times = [float(t) for t in re.findall(r"time=([\d.]+) ms", output)]
    return (sent - int(count.group(2)),
            statistics.median(times) if times else 0)


def snmp(guest, protocol, counter):
    """One of the counters that a guest's kernel has of a protocol."""
    names, values = guest.run(
        f"grep '^{protocol}:' /proc/net/snmp").splitlines()
    return int(values.split()[names.split().index(counter)])


def echo_replies(guest):
    """How many answers to pings a guest's kernel has got so far."""
    six = guest.run("awk '/^Icmp6InEchoReplies/ { print $2 }' "
                    "/proc/net/snmp6; true").strip()
    return snmp(guest, "Icmp", "InEchoReps") + int(six or "0")


def lost_pings(source, sent, output, before):
    """Pings that are never answered, and the median of the times in ms.

    @before is what echo_replies() said when they began. Once ping has seen an
    answer it waits for others no longer than a second, or twice the longest
    time so far, whatever its -W is. A guest that is not run for a while gets
    them later: its kernel counts them then.
    """
    lost, rtt = parse_ping(output, sent)
    deadline = time.monotonic() + 20 * SLOWNESS
    while lost and time.monotonic() < deadline:
        time.sleep(0.2)
        lost = max(sent - (echo_replies(source) - before), 0)
    return lost, rtt


def where_lost(guest):
    """The counters of those who may have dropped what a guest should get."""
    base = f"/sys/class/net/{guest.tap}/statistics/"
    host_side = ", ".join(f"{name} {read(base + name)}" for name in
                          ("tx_dropped", "tx_errors", "tx_fifo_errors"))
    guest_side = guest.run("grep -E '^(Ip|Icmp|Udp):' /proc/net/snmp; "
                           "grep eth0 /proc/net/dev /proc/net/arp; "
                           "cat /proc/net/softnet_stat")
    return f"{guest.tap}: {host_side}; {guest_side}"


def ping(source, target, count=10, address=None, options="-i 0.2"):
    """Pings that must all be answered; the median of their times in ms."""
    address = address or target.address
    before = echo_replies(source)
    output = source.run(f"ping -c {count} {options} -W 20 {address}; true",
                        60 + count)
    lost, rtt = lost_pings(source, count, output, before)
    if lost:
        raise GuestError(f"{lost} of {count} pings from {source.name} to "
                         f"{target.name} ({address}) were lost: "
                         f"{where_lost(source)}")
    return rtt


def parse_iperf3(output):
    """Mbit/s that the receiver has got."""
    found = re.search(r"([\d.]+) Mbits/sec\s+receiver", output)
    if not found:
        raise GuestError("cannot read iperf3's output: "
                         f"{output.strip()[-300:]}")
    return float(found.group(1))


def iperf3_command(target, seconds=0, every=0, mb=0):
    """So many seconds, or megabytes, of one stream."""
    amount = f"-n {mb}M" if mb else f"-t {seconds}"
    return (f"iperf3 -c {target.address} {amount} -i {every} -f m "
            "--connect-timeout 20000")


def iperf3(source, target, seconds=0, mb=0):
    command = iperf3_command(target, seconds, mb=mb)
    return parse_iperf3(source.run(command, seconds + 60))
