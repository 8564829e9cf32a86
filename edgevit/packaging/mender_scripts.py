"""Mender's state scripts: what happens on the device around the exchange of a folder. POSIX sh; docs.mender.io, state scripts.

A script that fails before the commit has Mender put the former folder back, and the last one then starts what lies in it.
"""

from __future__ import annotations

from edgevit.packaging.application import PROGRAM, USER, Application
from edgevit.packaging.launcher import filled

SHARED = """\
#!/bin/sh
set -e
title=@TITLE@
home=@HOME@
unit=/etc/systemd/system/$title.service

fail() {
  echo "$title: $1" >&2
  exit 1
}

# runuser is of util-linux; BusyBox has su.
service() {
  if command -v runuser >/dev/null; then
    runuser -u @USER@ -- "$home/service" "$1"
  else
    su -s /bin/sh @USER@ -c "$home/service $1"
  fi
}

start() {
  if [ -e "$home/$title.service" ]; then
    cmp -s "$home/$title.service" "$unit" || cp "$home/$title.service" "$unit"
    systemctl daemon-reload
    systemctl --quiet enable "$title.service"
    # Not waited for: a unit is ready at its first label, and whether there is one is seen before the commit.
    systemctl --no-block restart "$title.service"
  else
    systemctl --quiet disable --now "$title.service" || true
    rm -f "$unit"
    systemctl daemon-reload
  fi
}
"""

INSTALL_ENTER = """
# Before anything is changed: what the image must have.
[ -x @PROGRAM@ ] || fail "@PROGRAM@ is not there: the image must bring edgevit"
id @USER@ >/dev/null 2>&1 || fail "there is no user @USER@: useradd --system --groups video @USER@"
[ -d /run/systemd/system ] || fail "systemd does not run here"
"""
INSTALL_LEAVE = """
cache=/var/cache/$title
mkdir -p "$cache"
chown @USER@: "$cache"
# It may hold a password, and the service must read it.
chown root:@USER@ "$home/@NAME@.conf"
chmod 640 "$home/@NAME@.conf"
service check || fail "the new bundle fails its check"
start || fail "it does not start: journalctl -u $title"
"""
COMMIT_ENTER = """
service health || fail "it is not healthy after the update: journalctl -u $title"
"""
ROLLBACK_LEAVE = """
start
"""


def state_scripts(application: Application, home: str) -> dict[str, str]:
    """File name, as Mender wants it, to text; ``home`` is the folder on the device that is exchanged."""
    words = {"TITLE": application.title, "NAME": application.name, "HOME": home, "USER": USER, "PROGRAM": PROGRAM}
    bodies = {
        "ArtifactInstall_Enter_10_edgevit": INSTALL_ENTER,
        "ArtifactInstall_Leave_10_edgevit": INSTALL_LEAVE,
        "ArtifactCommit_Enter_10_edgevit": COMMIT_ENTER,
        "ArtifactRollback_Leave_10_edgevit": ROLLBACK_LEAVE,
    }
    return {name: filled(SHARED + body, words) for name, body in bodies.items()}
