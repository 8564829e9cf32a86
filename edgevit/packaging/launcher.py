"""The script through which unit, package and updater call edgevit on the device, and the settings that it reads.

Settings are of the site, not of the bundle: which camera, which outputs. So they lie in a file of their own.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from edgevit.device.service import Service, unit
from edgevit.packaging.application import KEYS, PROGRAM, USER, Application

LAUNCHER = """\
#!/bin/sh
# How edgevit is called for @TITLE@, by its unit, its package and its updater:
#   run             what systemd runs
#   check [BUNDLE]  does the engine compute the bundle's samples right here?
#   health          does the run that should go on give labels of this very bundle?
set -eu
BUNDLE=@BUNDLE@
EDGEVIT_CACHE=/var/cache/@TITLE@
export EDGEVIT_CACHE
STATE=/run/edgevit/@TITLE@/state.json
# A public key in this folder makes a signature by it, or by another one there, required.
for key in @KEYS@/*.pub; do
  [ -e "$key" ] || continue
  EDGEVIT_REQUIRE_SIGNATURE=${EDGEVIT_REQUIRE_SIGNATURE:+$EDGEVIT_REQUIRE_SIGNATURE:}$key
  export EDGEVIT_REQUIRE_SIGNATURE
done
command=${1:-}
case $command in run | check | health) shift ;; *)
  echo "usage: $0 run | check [BUNDLE] | health" >&2
  exit 2
  ;;
esac
if [ "$command" = check ]; then
  exec @PROGRAM@ healthcheck "${1:-$BUNDLE}"
fi
SOURCE='' WITHIN=120 MIN_FPS=''
set --
@SETTINGS@
case $command in
  run) exec @PROGRAM@ run "$BUNDLE" "$SOURCE" --headless --state "$STATE" "$@" ;;
  health)
    set -- --no-samples --state "$STATE" --within "$WITHIN" ${MIN_FPS:+--min-fps "$MIN_FPS"}
    exec @PROGRAM@ healthcheck "$BUNDLE" "$@"
    ;;
esac
"""


def launcher(application: Application, bundle: str, *settings: str) -> str:
    """The script's text; ``bundle`` and ``settings`` are paths on the device, of the latter the first that is there counts."""
    reads = "\n".join(f"{'el' if place else ''}if [ -e {path} ]; then\n  . {path}" for place, path in enumerate(settings))
    words = {
        "TITLE": application.title, "BUNDLE": bundle, "KEYS": KEYS, "PROGRAM": PROGRAM, "SETTINGS": f"{reads}\nfi",
    }  # fmt: skip
    return filled(LAUNCHER, words)


def settings_text(application: Application) -> str:
    """The settings: read by sh, so every value is quoted for it."""
    options = [shlex.quote(word) for word in application.options]
    lines = [
        f'# What {application.title} runs: edgevit run BUNDLE "$SOURCE" "$@". Read by sh; after a change: systemctl restart '
        + application.title,
        f"SOURCE={shlex.quote(application.source)}",
        f"set -- {' '.join(options)}".rstrip(),
        "# After an update frames must be classified within so many seconds, at so many a second (empty: at any rate),",
        "# or the former bundle is in service again.",
        f"WITHIN={application.within_s}",
        f"MIN_FPS={'' if application.min_fps is None else f'{application.min_fps:g}'}",
    ]
    return "\n".join(lines) + "\n"


def unit_text(application: Application, program: str, bundle: str) -> str:
    """The unit that runs ``program run``; both are paths on the device, and ``bundle`` is what it may only read."""
    return unit(
        Service(
            name=application.title,
            command=(program, "run"),
            bundle=Path(bundle),
            user=USER,
            on_gpu=application.on_gpu,
            csi=application.csi,
            restarts_argus=application.restarts_argus,
            writable=application.writable,
            watchdog_s=application.watchdog_s,
        )
    )


def filled(text: str, words: dict[str, str]) -> str:
    """``text`` with each ``@WORD@`` replaced; none of ``words`` needs a shell's quotes."""
    for name, value in words.items():
        text = text.replace(f"@{name}@", value)
    return text
