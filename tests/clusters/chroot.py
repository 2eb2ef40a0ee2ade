"""A Debian of another release in a folder, with users, packages, and a way to stop everything that runs in it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HOME = Path(os.environ.get("BBQ_TEST_CLUSTERS", "/var/tmp/bbq-test-clusters"))
USERS = {"alice": 2001, "bob": 2002, "carol": 2003, "weird-user.x": 2004, "monitor": 2005}
_MOUNTS = ("proc", "sys", "dev", "dev/pts")


class Chroot:
    """One suite (bookworm, trixie, sid) under HOME."""

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self.path = HOME / suite

    def prepare(self, packages: Sequence[str]) -> None:
        """Make the chroot, its mounts, users and packages, each only where it is missing."""
        if os.geteuid() != 0:
            raise SystemExit("test clusters need root: they live in a chroot")
        if not (self.path / ".bootstrapped").exists():
            if shutil.which("debootstrap") is None:
                raise SystemExit("debootstrap: not installed; apt-get install debootstrap")
            HOME.mkdir(parents=True, exist_ok=True)
            _patiently("debootstrap", "--variant=minbase", self.suite, str(self.path), _mirror())
            (self.path / ".bootstrapped").touch()
        self._mount()
        self._users()
        self.know("localhost", os.uname().nodename)
        missing = [name for name in packages if not (self.path / f"var/lib/dpkg/info/{name}.list").exists()]
        if missing:
            self._install(missing)

    def _mount(self) -> None:
        for name in _MOUNTS:
            target = self.path / name
            target.mkdir(parents=True, exist_ok=True)
            if not os.path.ismount(target):
                subprocess.run(["mount", "--bind", f"/{name}", str(target)], check=True)

    def unmount(self) -> None:
        """Take the mounts away, so that the folder may be removed."""
        for name in reversed(_MOUNTS):
            if os.path.ismount(self.path / name):
                subprocess.run(["umount", str(self.path / name)], check=True)

    def _users(self) -> None:
        passwd, group = self.path / "etc/passwd", self.path / "etc/group"
        for name, uid in USERS.items():
            if f"\n{name}:" in passwd.read_text():
                continue
            with passwd.open("a") as file:
                file.write(f"{name}:x:{uid}:{uid}:{name}:/home/{name}:/bin/bash\n")
            with group.open("a") as file:
                file.write(f"{name}:x:{uid}:\n")
            (self.path / f"home/{name}").mkdir(parents=True, exist_ok=True)
            os.chown(self.path / f"home/{name}", uid, uid)

    def know(self, *names: str) -> None:
        """Return these host names the loopback address inside."""
        hosts = self.path / "etc/hosts"
        text = hosts.read_text() if hosts.exists() else ""
        missing = [name for name in names if name not in text.split()]
        if missing:
            hosts.write_text(f"{text}127.0.0.1 {' '.join(missing)}\n")

    def _install(self, packages: Sequence[str]) -> None:
        policy = self.path / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")  # packages must not start their services
        policy.chmod(0o755)
        # sid's Release file may have expired on a mirror
        (self.path / "etc/apt/apt.conf.d/99bbq").write_text(
            'Acquire::Check-Valid-Until "false";\nAPT::Install-Recommends "false";\nAPT::Sandbox::User "root";\n'
        )
        shutil.copy("/etc/resolv.conf", self.path / "etc/resolv.conf")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        quiet = {"env": environment, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        _patiently("chroot", str(self.path), "apt-get", "update", "-qq")
        # a package whose configuration wants systemd fails at first and is finished by the second line
        subprocess.run(["chroot", str(self.path), "apt-get", "install", "-y", "-qq", *packages], check=False, **quiet)
        subprocess.run(["chroot", str(self.path), "dpkg", "--configure", "-a"], check=False, **quiet)

    def unpack(self, suite: str, packages: Sequence[str], folder: str) -> None:
        """Put the files of another suite's packages into a folder inside, where they are not yet; nothing is set up."""
        target = self.path / folder.lstrip("/")
        if (target / ".unpacked").exists():
            return
        (target / "lists/partial").mkdir(parents=True, exist_ok=True)
        (target / "sources").write_text(f"deb {_mirror()} {suite} main\n")
        settings = {"Dir::Etc::SourceList": "sources", "Dir::State::lists": "lists"}
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={folder}/{value}")]
        options += ["-o", "Dir::Etc::SourceParts=/dev/null"]
        shutil.copy("/etc/resolv.conf", self.path / "etc/resolv.conf")
        _patiently("chroot", str(self.path), "apt-get", *options, "update", "-qq")
        download = ["apt-get", *options, "download", "-qq", *(f"{name}/{suite}" for name in packages)]
        _patiently("chroot", str(self.path), "sh", "-c", f'cd {folder} && "$@"', "sh", *download)
        for package in target.glob("*.deb"):
            self.run("dpkg", "-x", f"{folder}/{package.name}", folder)
            package.unlink()
        shutil.rmtree(target / "lists")
        (target / ".unpacked").touch()

    def run(
        self,
        *argv: str | bytes,
        user: str | None = None,
        check: bool = True,
        stdin: bytes = b"",
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command inside, as a user or as root, and give what it printed."""
        who = [f"--userspec={user}:{user}"] if user else []
        home = f"/home/{user}" if user else "/root"
        result = subprocess.run(
            ["chroot", *who, str(self.path), *argv],
            input=stdin,
            capture_output=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "LC_ALL": "C.UTF-8", **(environment or {})},
            check=False,
        )
        if check and result.returncode != 0:
            raise RuntimeError(
                f"{argv!r} in {self.suite}: exit {result.returncode}: {result.stdout!r} {result.stderr!r}"
            )
        return result

    def spawn(self, *argv: str) -> None:
        """Start a daemon that does not put itself into the background."""
        with (self.path / "var/log/bbq-daemons.log").open("ab") as log:
            subprocess.run(
                ["setsid", "--fork", "chroot", str(self.path), *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )

    def directory(self, path: str, owner: str = "root", mode: int = 0o755) -> None:
        """Make a directory inside that belongs to one of its users."""
        target = self.path / path.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        uid, gid = self.ids(owner)
        os.chown(target, uid, gid)
        target.chmod(mode)

    def ids(self, user: str) -> tuple[int, int]:
        """Return a user's uid and gid inside."""
        for line in (self.path / "etc/passwd").read_text().splitlines():
            fields = line.split(":")
            if fields[0] == user:
                return int(fields[2]), int(fields[3])
        raise LookupError(user)

    def alive(self, pid_file: str) -> int | None:
        """Return the pid of a daemon that runs inside and wrote this pid file."""
        try:
            pid = int((self.path / pid_file.lstrip("/")).read_text().split()[0])
            return pid if Path(f"/proc/{pid}/root").readlink() == self.path else None
        except (OSError, ValueError, IndexError):
            return None

    def processes(self, prefixes: Sequence[str] = ()) -> list[int]:
        """Return the pids of what runs inside (with one of these names)."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                inside = (entry / "root").readlink() == self.path
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if inside and (not prefixes or name.startswith(tuple(prefixes))):
                found.append(int(entry.name))
        return found

    def stop(self, pid: int | None, seconds: float = 15) -> None:
        """End a process, kindly at first."""
        if pid is None:
            return
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            if wait_for(lambda: not Path(f"/proc/{pid}").exists() or _zombie(pid), patience):
                return


def wait_for(condition: Callable[[], object], seconds: float, pause: float = 0.1) -> bool:
    """Wait until something is true; tell whether it became so in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(pause)
    return bool(condition())


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _patiently(*argv: str) -> None:
    """Run what a mirror may refuse at one moment and give at the next: up to three times, a while apart."""
    for again in (2, 1, 0):
        done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0:
            return
        if not again:
            raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
        time.sleep(20)


def _mirror() -> str:
    """Return the Debian mirror that this machine's own apt uses."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for uri in listed:
        if uri.rstrip("/").endswith("/debian"):
            return uri
    raise SystemExit("no Debian mirror in this machine's apt sources")
