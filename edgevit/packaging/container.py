"""A bundle and its service as a container: what to build an image from, and how to run it (Dockerfile, Compose specification)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgevit.errors import ConfigError, storage_errors
from edgevit.files.bounded import read_bounded
from edgevit.files.writing import beside, put
from edgevit.packaging.application import Application
from edgevit.packaging.tree import Member, bundle_members, text_member, write_tree

MARK = "# Written by edgevit package."
HOME = "/opt/edgevit"
STATE = "/run/edgevit/state.json"
NUMBER = 10001
"""The user of edgevit's images, deploy/Dockerfile.*."""
PLATFORMS = {"": ("linux/amd64", "linux/arm64"), "x86_64": ("linux/amd64",), "aarch64": ("linux/arm64",)}
OWN = {"Dockerfile", "compose.yaml", "bundle"}


def write_container(application: Application, folder: Path) -> Path:
    """Write the build context ``folder/edgevit-NAME-VERSION``; an older one is replaced.

    Raises ConfigError if something else lies there, StorageError, BundleError.
    """
    path = folder / f"{application.title}-{application.version}"
    with storage_errors(path, "-o"):
        _check_own(path)
        with beside(path) as scratch:
            fresh = scratch / "context"
            fresh.mkdir()
            write_tree(fresh, _members(application))
            put(fresh, path)
    return path


def _members(application: Application) -> Iterator[Member]:
    yield from bundle_members(application.bundle, "bundle")
    yield text_member("Dockerfile", dockerfile(application))
    yield text_member("compose.yaml", compose(application), 0o600 if application.secret else 0o644)


def arguments(application: Application) -> list[str]:
    """What edgevit is told in the container."""
    return ["run", f"{HOME}/bundle", application.source, "--headless", "--state", STATE, *application.options]


def dockerfile(application: Application) -> str:
    """The image: edgevit's own, the bundle, and how to tell whether it is well."""
    health = ["edgevit", "healthcheck", f"{HOME}/bundle", "--no-samples", "--state", STATE, "--within", "10"]
    if application.min_fps is not None:
        health += ["--min-fps", f"{application.min_fps:g}"]
    # With a password in it the command is no part of the image, which others may pull.
    command = ["--help"] if application.secret else arguments(application)
    kind = "jetson" if application.traits.extra == "jetson" else "cpu"
    return "\n".join([
        f"{MARK} Its command and its devices are in compose.yaml.",
        f"# edgevit's own image is of deploy/Dockerfile.{kind}: docker build -f deploy/Dockerfile.{kind} -t edgevit:latest .",
        "ARG EDGEVIT=edgevit:latest",
        "# hadolint ignore=DL3006",
        "FROM ${EDGEVIT}",
        f"LABEL org.opencontainers.image.title={json.dumps(application.title)} \\",
        f"      org.opencontainers.image.version={json.dumps(application.version)} \\",
        f'      edgevit.bundle="{application.bundle.sha256}"',
        f"COPY bundle {HOME}/bundle",
        f"HEALTHCHECK --interval=30s --timeout=30s --start-period={application.within_s}s --retries=3 \\",
        f"  CMD {json.dumps(health)}",
        "# As Ctrl-C: the run ends with its summary.",
        "STOPSIGNAL SIGINT",
        f"CMD {json.dumps(command)}",
    ]) + "\n"  # fmt: skip


def compose(application: Application) -> str:
    """One service: nothing is writable but memory and a cache, no rights, the camera and the GPU; started again when it ends."""
    devices, groups = _devices(application)
    title = application.title
    lines = [
        f"{MARK} docker compose up -d --wait: returns when frames are classified, or says that they are not.",
        f"name: {title}",
        "services:",
        f"  {application.name}:",
        f"    image: ${{REGISTRY:-}}{title}:{application.version}",
        "    build:",
        "      context: .",
        "      args:",
        '        EDGEVIT: "${EDGEVIT:-edgevit:latest}"',
        f"      platforms: {json.dumps(PLATFORMS[application.machine])}",
        f"    command: {_words(arguments(application))}",
        "    restart: unless-stopped",
        "    stop_grace_period: 15s",
        "    read_only: true",
        "    cap_drop: [ALL]",
        "    security_opt: [no-new-privileges:true]",
        "    environment:",
        "      EDGEVIT_CACHE: /var/cache/edgevit",
        "      XDG_CACHE_HOME: /var/cache/edgevit",
        '      PYTHONDONTWRITEBYTECODE: "1"',
        "    tmpfs:",
        f"      - /run/edgevit:uid={NUMBER},gid={NUMBER},mode=0755",
        f"      - /var/cache/edgevit:uid={NUMBER},gid={NUMBER},mode=0700",
        "      - /tmp",
    ]
    if application.on_gpu and application.traits.extra == "jetson":
        lines.append("    runtime: nvidia")
    if devices:
        lines += ["    devices:", *(f"      - {_word(device)}" for device in devices)]
    if groups:
        lines += ["    group_add:", *(f"      - {group}" for group in groups)]
    shared = [*map(str, application.writable), *(["/tmp/argus_socket"] if application.csi == "argus" else [])]
    if shared:
        lines += ["    volumes:", *(f"      - {_word(f'{path}:{path}')}" for path in shared)]
    return "\n".join(lines) + "\n"


def _devices(application: Application) -> tuple[list[str], list[str]]:
    """Those of the host that the source is read through, and the groups that own them."""
    source = application.source
    devices: list[str] = []
    if source.isdecimal():
        devices.append(f"/dev/video{source}")
    elif source.startswith("/dev/"):
        devices.append(source)
    elif source.startswith("usb://") and source.removeprefix("usb://").isdecimal():
        devices.append(f"/dev/video{source.removeprefix('usb://')}")
    groups = ["video"] if devices or application.csi else []
    if application.on_gpu:
        groups += ["video"] if not groups else []
        groups.append('"${RENDER_GID:?set RENDER_GID to the number of this host: getent group render | cut -d: -f3}"')
    return [f"{device}:{device}" for device in devices], groups


def _words(words: Sequence[str]) -> str:
    return "[" + ", ".join(map(_word, words)) + "]"


def _word(word: str) -> str:
    """A word of YAML, of which JSON's strings are some, in which Compose finds no variable."""
    return json.dumps(word, ensure_ascii=False).replace("$", "$$")


def _check_own(path: Path) -> None:
    """Raise ConfigError if ``path`` holds anything but such a context. Raises OSError."""
    if not path.exists() and not path.is_symlink():
        return
    strange = "" if path.is_dir() and not path.is_symlink() else "it"
    if not strange and any(path.iterdir()):
        others = [each.name for each in path.iterdir() if each.name not in OWN]
        strange = min(others, default="" if _is_marked(path / "Dockerfile") else "Dockerfile")
    if strange:
        msg = f"{path}: {strange} there is not of edgevit package, and would be lost. Move it, or choose another place with -o."
        raise ConfigError(msg)


def _is_marked(path: Path) -> bool:
    return path.is_file() and read_bounded(path, 2**20).startswith(MARK.encode())
