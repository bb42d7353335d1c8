"""Run containers on a bridge: the image from the Containerfile, and one with the real iperf3.

No image registry is needed. The base, and the image with iperf3, are Debian systems made by
debootstrap. They are kept with the layers of builds in a storage of its own below the user's cache
directory. Everything that a run creates is named after its process (``nm<pid>-<random>``) and
removed at the end of the run. If the run is killed, the next run removes it.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from support import debian
from support.debian import BUILD_S, QUICK_BUILD, ROOT, run

SUITE = "bookworm"
TOOLS = ("podman", "buildah", "runc", "debootstrap", "iptables", "catatonit")
BASE = f"localhost/netmeasure-tests-base:{SUITE}"
IPERF3 = f"localhost/netmeasure-tests-iperf3:{SUITE}"
#: iperf3 and the libraries that the minimal system does not have.
IPERF3_PACKAGES = ("iperf3", "libiperf0", "libsctp1")
_NAME = re.compile(r"nm(\d+)-[0-9a-f]{8}")
#: Without these options the runtime may fail to raise its own limits.
LIMITS = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=1000:1000")
#: All containers here run as an unprivileged user, on a read-only system, without capabilities.
HARDENED = ("--user=1000", "--read-only", "--cap-drop=all")
MESH = ROOT / "deploy" / "kubernetes" / "mesh"


def available() -> str | None:
    """Return why containers can't be created here, or None."""
    for tool in TOOLS:
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    return None if os.geteuid() == 0 else "containers need root"


def cache() -> Path:
    return debian.cache("containers")


def _storage() -> tuple[str, ...]:
    root = str(cache() / "storage")
    # all mounts belong to one storage; the path is short, since sockets are below it
    key = sha256(root.encode()).hexdigest()[:8]
    return ("--root", root, "--runroot", f"/run/netmeasure-tests-{key}")


def podman(*words: str) -> str:
    return run(*_podman(*words)).stdout.strip()


def _podman(*words: str) -> tuple[str, ...]:
    return ("podman", *_storage(), "--runtime=runc", "--cgroup-manager=cgroupfs", *words)


# ---- images --------------------------------------------------------------------------------------


def systems() -> None:
    """Create the images of Debian's minimal system, and of the same with Debian's iperf3, which it
    runs, if one of them does not exist."""
    archives = {name: cache() / re.sub(r"\W", "-", f"{name}.tar") for name in (BASE, IPERF3)}
    changes = {BASE: (), IPERF3: ("--change", 'ENTRYPOINT ["iperf3"]')}
    with debian.lock(cache() / "systems.lock"):
        if all(_exists(name) for name in archives):
            return
        try:
            debian.bootstrap(SUITE, archives[IPERF3], IPERF3_PACKAGES, without=archives[BASE])
            for name, archive in archives.items():
                run(*_podman("import", "-q", *changes[name], str(archive), name), timeout=120)
        finally:
            for archive in archives.values():
                archive.unlink(missing_ok=True)


def _exists(image: str) -> bool:
    return subprocess.run(_podman("image", "exists", image), check=False).returncode == 0


def wheels() -> Path:
    """Return a directory with all packages that the build fetches from the package index."""
    wanted = listed(ROOT / "tools" / "container-wheels.txt")
    return debian.wheels(cache(), "3.11", [*wanted, "setuptools>=77", "cython>=3.1,<4", "wheel"])


def mesh_wheels() -> Path:
    """Return the same for the image of the mesh."""
    return debian.wheels(cache(), "3.11", listed(MESH / "packages.txt"))


def listed(path: Path) -> list[str]:
    """Return the packages that a file lists."""
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


@dataclass(frozen=True)
class Images:
    base: str
    ours: str
    iperf3: str
    mesh: str

    @staticmethod
    def size(name: str) -> int:
        return int(podman("image", "inspect", "--format", "{{.Size}}", name))


@contextlib.contextmanager
def images() -> Iterator[Images]:
    """Build our images from the current sources; remove them at the end."""
    name = _fresh_name()
    made = Images(
        base=BASE,
        ours=f"localhost/{name}/netmeasure:test",
        iperf3=IPERF3,
        mesh=f"localhost/{name}/netmeasure-mesh:test",
    )
    with ThreadPoolExecutor(2) as together:
        made_systems = together.submit(systems)
        wheels_from = f"wheels={together.submit(wheels).result()}"
        made_systems.result()
    common = ["buildah", *_storage(), "build", "--isolation=chroot", "--layers", "-q"]
    common += ["--build-arg", f"BASE={made.base}"]
    ours = ["--ignorefile", str(ROOT / ".containerignore"), "--build-context", wheels_from]
    ours += [f"--build-arg={name}={words}" for name, words in QUICK_BUILD.items()]
    ours += ["-t", made.ours, "-f", str(ROOT / "Containerfile"), str(ROOT)]
    try:
        run(*common, *ours, timeout=BUILD_S)
        dask = ["--build-context", f"wheels={mesh_wheels()}", "--build-arg", f"IMAGE={made.ours}"]
        run(*common, *dask, "-t", made.mesh, str(MESH), timeout=BUILD_S)
        yield made
    finally:
        for image in (made.mesh, made.ours):
            subprocess.run(_podman("rmi", "-f", image), capture_output=True, check=False)
        # remove layers of older sources
        podman("image", "prune", "-f", "--filter", "until=72h")


# ---- containers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Container:
    """Hold a running container; `pid` is its process 1, as seen from this process."""

    name: str
    pid: int
    address: str

    @property
    def output(self) -> str:
        """Return the text of both streams so far."""
        done = subprocess.run(
            _podman("logs", self.name),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return subprocess.run(
            _podman("exec", self.name, *words),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def wait(self) -> int:
        """Return its exit code, once it has ended."""
        return int(podman("wait", self.name))

    def started_at(self) -> float:
        """Return when its process 1 was started, in the time of time.time(), to 10 ms (proc(5))."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        ago = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.time() - ago


@dataclass
class Bridge:
    """Hold a bridge network, and the containers on it."""

    name: str
    _containers: list[str] = field(default_factory=list)
    _pods: list[str] = field(default_factory=list)

    def start(self, image: str, *words: str, entry: str | None = None) -> Container:
        """Start a container in the background; `wait_for` reads its first lines of output."""
        name = f"{self.name}-{len(self._containers)}"
        self._containers.append(name)
        podman("run", "-d", "--name", name, *self._options(image, entry), image, *words)
        known = json.loads(podman("inspect", name))[0]
        address = known["NetworkSettings"]["Networks"][self.name]["IPAddress"]
        return Container(name, known["State"]["Pid"], address)

    def run(
        self, image: str, *words: str, entry: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        name = f"{self.name}-{len(self._containers)}"
        self._containers.append(name)
        return subprocess.run(
            _podman("run", "--name", name, *self._options(image, entry), image, *words),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _options(self, image: str, entry: str | None) -> tuple[str, ...]:
        # the real iperf3 makes a file in /tmp for each stream; netmeasure writes no files
        writes = f"--read-only-tmpfs={str(image == IPERF3).lower()}"
        options = ("--network", self.name, *LIMITS, *HARDENED, writes)
        return options if entry is None else (*options, "--entrypoint", entry)

    def play(self, template: dict[str, Any], *others: dict[str, Any]) -> Container:
        """Run a pod of a Kubernetes template with one container, and its other objects."""
        name = f"{self.name}-pod{len(self._pods)}"
        self._pods.append(name)
        metadata = {**template["metadata"], "name": name}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        # options of `podman run` that `kube play` does not have
        limits = [words for words in LIMITS if words != "--ulimit"]
        settings = cache() / "containers.conf"
        settings.write_text(f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n")
        run(
            *_podman("kube", "play", "--network", self.name, "-"),
            input=yaml.safe_dump_all([*others, pod]),
            env={**os.environ, "CONTAINERS_CONF": str(settings)},
        )
        (container,) = template["spec"]["containers"]
        own = f"{name}-{container['name']}"
        infra = json.loads(podman("pod", "inspect", name))["InfraContainerID"]
        networks = json.loads(podman("inspect", infra))[0]["NetworkSettings"]["Networks"]
        pid = json.loads(podman("inspect", own))[0]["State"]["Pid"]
        return Container(own, pid, networks[self.name]["IPAddress"])

    def close(self) -> None:
        if self._pods:
            podman("pod", "rm", "-f", "-i", "-t", "0", *self._pods)
        if self._containers:
            podman("rm", "-f", "-i", "-t", "0", *self._containers)
        podman("network", "rm", "-f", self.name)


@contextlib.contextmanager
def bridge() -> Iterator[Bridge]:
    network = Bridge(_fresh_name())
    try:
        podman("network", "create", "--disable-dns", network.name)
        yield network
    finally:
        network.close()


def _fresh_name() -> str:
    return f"nm{os.getpid()}-{secrets.token_hex(4)}"


def _abandoned(name: str) -> bool:
    found = _NAME.search(name)
    return found is not None and not Path("/proc", found[1]).exists()


def sweep() -> None:
    """Remove the leftovers of killed runs."""
    for listing, remove in (
        (("pod", "ps", "--format", "{{.Name}}"), ("pod", "rm", "-f", "-t", "0")),
        (("ps", "-a", "--format", "{{.Names}}"), ("rm", "-f", "-t", "0")),
        (("network", "ls", "--format", "{{.Name}}"), ("network", "rm", "-f")),
        (("images", "--format", "{{.Repository}}:{{.Tag}}"), ("rmi", "-f")),
    ):
        for name in filter(_abandoned, podman(*listing).splitlines()):
            with contextlib.suppress(OSError):
                podman(*remove, name)
