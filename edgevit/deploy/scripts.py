"""What runs on the host: POSIX shell with arguments as $1, $2, ..., so that nothing is quoted twice; and a little Python."""

from __future__ import annotations

FACTS = r"""
echo "shell=quiet"
mkdir -p -- "$1" && cd -- "$1" || exit 1
# Steps remove and replace what lies here: never in a folder that somebody else fills.
if [ -e .edgevit ] || [ -z "$(ls -A)" ]; then : >.edgevit && echo "ours=yes"; fi
echo "folder=$(pwd -P)"; echo "machine=$(uname -m)"; echo "free_kb=$(df -Pk . | awk 'NR==2{print $4}')"
for tool in rsync flock setsid; do command -v $tool >/dev/null && echo "$tool=yes"; done
[ -x venv/bin/edgevit ] && echo "venv_there=yes"
{ command -v nvcc || [ -x /usr/local/cuda/bin/nvcc ]; } >/dev/null && echo "cuda=nvcc"
command -v g++ >/dev/null && echo "cxx=yes"
command -v -- "$2" >/dev/null || { [ -x "$2" ] || exit 0; }
"$2" -c 'import sys; print("python=%d.%d.%d" % sys.version_info[:3])'
"$2" -c 'import sys; print("bits=64" if sys.maxsize > 2**32 else "bits=32")'
"$2" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h"); print("headers=yes")' 2>/dev/null
"$2" -c 'import ensurepip, venv; print("venv=yes")' 2>/dev/null
"$2" -c 'import ctypes; ctypes.CDLL("libcuda.so.1"); print("driver=yes")' 2>/dev/null
"$2" -c 'import cv2; print("cv2=" + cv2.__version__)' 2>/dev/null
for python in venv/bin/python "$2"; do "$python" -c 'import pycuda; print("cuda=pycuda")' 2>/dev/null; done
exit 0
"""
"""$1 folder, $2 Python: makes the folder and prints what the host is and has, ``key=value``."""

LOCK = r"""
cd -- "$1" && touch .lock 2>/dev/null || { echo "it cannot be locked"; exit 1; }
flock -w "$2" -E 99 .lock sh -c '
  echo locked
  while [ -n "$(timeout "$1" dd bs=1 count=1 2>/dev/null)" ]; do :; done
' sh "$3"
[ $? != 99 ] || echo taken
"""
"""$1 folder, $2 seconds to wait for the lock, $3 seconds: holds it while a byte arrives at least that often.

A cable that is pulled closes nothing: without signs of life the lock would stay for hours.
"""

INSTALL = r"""
set -e
cd -- "$1"; key=$2; python=$3; shift 3
# pycuda is compiled with nvcc, which a JetPack puts on the path of interactive shells only.
if [ -d /usr/local/cuda/bin ]; then PATH=$PATH:/usr/local/cuda/bin; export PATH; fi
base() { "$1" -c 'import sys; print(sys.base_prefix, sys.version_info[:2])' 2>/dev/null; }
whole() { [ ! -e venv/.begun ] && [ "$(base venv/bin/python)" = "$(base "$python")" ] && venv/bin/python -m pip --version; }
whole >/dev/null 2>&1 || { rm -rf venv; "$python" -m venv --system-site-packages venv; }
# Stays only if this is killed: what pip had half done by then cannot be told from what it had done.
: >venv/.begun; trap 'rm -f venv/.begun' EXIT
wheel=$1; index=$2; shift 2
get() {
  venv/bin/python -m pip --disable-pip-version-check --no-input install --quiet ${index:+--no-index} \
    ${index:+"--find-links=$index"} "$@"
}
get "$wheel" "$@"
get --no-deps --force-reinstall "$wheel"
printf %s "$key" >venv/.edgevit.part; mv venv/.edgevit.part venv/.edgevit
"""
"""$1 folder, $2 key, $3 Python, $4 wheel, $5 wheelhouse or nothing, then requirements. The key is written when all is there."""

TAKE_OVER = r"""
cd -- "$1"; name=$2
# What a compilation left that was killed goes, too.
rm -rf -- "bundles/.old-$name" "bundles/.pushed-$name" "bundles/.$name."*
if [ -e "bundles/$name" ]; then mv -- "bundles/$name" "bundles/.old-$name" || exit 1; fi
mv -- "incoming/$name" "bundles/$name" || { mv -- "bundles/.old-$name" "bundles/$name"; exit 1; }
printf %s "$3" >"bundles/.pushed-$name" || exit 1
rm -rf -- "bundles/.old-$name"
"""
"""$1 folder, $2 name, $3 digest: what came in takes the place of what was there, by renaming.

Cut off anywhere, it leaves no digest of something else than is there.
"""

MAKE_ROOM = r"""
cd -- "$1" || exit 1
kind=zip; [ ! -d "incoming/$2" ] || kind=folder
[ "$kind" = "$3" ] || rm -rf -- "incoming/$2"
"""
"""$1 folder, $2 name, $3 ``folder`` or ``zip``: what came in under that name before goes, unless it is of that kind."""

STATE = """
import hashlib, sys
from edgevit.bundle import open_bundle
from edgevit.deploy.identity import identity
from edgevit.engine.of_bundle import compiled_here
from edgevit.engines import traits_of
bundle = open_bundle(sys.argv[1]); bundle.verify()
ahead = traits_of(bundle.manifest.engine).ahead_of_time
print("manifest", hashlib.sha256(bundle.manifest.to_json().encode()).hexdigest())
print("identity", identity(bundle.manifest))
print("engine", "compiled" if ahead and compiled_here(bundle) else "missing" if ahead else "jit")
"""
"""Python: digest of a bundle's manifest, its identity, whether its engine is compiled for here. Fails if it is not whole."""
