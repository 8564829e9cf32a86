"""What dpkg runs when the package of a bundle comes, changes or goes: POSIX sh.

dpkg replaces files before it asks whether they are any good. So the former bundle is copied before that, and the service reads
its bundle through a link: to the package's own if that proves itself, else to the copy. Debian Policy, chapter 6, has the order
of the calls.
"""

from __future__ import annotations

from edgevit.packaging.application import USER, Application
from edgevit.packaging.launcher import filled

SHARED = """\
#!/bin/sh
set -e
title=@TITLE@
state=/var/lib/edgevit/@NAME@
packaged=/usr/lib/edgevit/@NAME@
settings=/etc/edgevit/@NAME@.conf

# The bundle in service is $1. At no time there is none.
switch() {
  ln -sfn "$1" "$state/.current"
  mv -T "$state/.current" "$state/current"
}
"""

PREINST = """
# Kept, as dpkg removes it: it is what the new bundle is measured by, and what is in service until that is done.
if [ "$1" = upgrade ] || [ "$1" = install ]; then
  serving=$(readlink -e "$state/current" || true)
  case $serving in
    "$packaged"/*)
      rm -rf "$state/.previous"
      cp -a "$serving" "$state/.previous"
      rm -rf "$state/previous"
      mv "$state/.previous" "$state/previous"
      switch "$state/previous"
      cp -p "$settings" "$state/previous.conf"
      ;;
  esac
fi
"""

POSTINST = """
fresh=$packaged/@VERSION@

booted() { [ -d /run/systemd/system ]; }

as_user() { runuser -u @USER@ -- "$packaged/service" "$@"; }

restart() {
  if booted; then
    systemctl daemon-reload || true
    # A unit is ready at its first label, and a camera may never give one.
    timeout "$(. "$settings" && echo "$WITHIN")" deb-systemd-invoke restart "$title.service"
  fi
}

# A policy or an administrator may want it stopped, disabled or masked.
running() { booted && systemctl --quiet is-active "$title.service"; }

back() {
  if [ -d "$state/previous" ]; then
    switch "$state/previous"
    # The script of the service reads these before the package's own.
    if [ -e "$state/previous.conf" ]; then cp -p "$state/previous.conf" "$state/former.conf"; fi
    restart || true
    echo "$title: $1. The former bundle and its settings are in service again. Install a version that works;" \\
      "or, once the cause is gone: dpkg --configure $title" >&2
  else
    if booted; then deb-systemd-invoke stop "$title.service" || true; fi
    echo "$title: $1, and there is no former bundle: it is stopped. Once the cause is gone: dpkg --configure $title." \\
      "Its log: journalctl -u $title" >&2
  fi
  exit 1
}

case $1 in configure | abort-upgrade | abort-deconfigure | abort-remove) ;; *) exit 0 ;; esac

mkdir -p "$state"
install -d -m 700 -o @USER@ -g @USER@ "/var/cache/$title"
# It may hold a password, and the service must read it.
if [ -e "$settings" ] && ! dpkg-statoverride --list "$settings" >/dev/null; then
  chown root:@USER@ "$settings"
  chmod 640 "$settings"
fi

# Where systemd does not run an image is being made, maybe for another machine: nothing to compute on, nothing to start.
if [ "$1" = configure ] && booted; then
  as_user check "$fresh" || back "the new bundle fails its check"
fi
switch "$fresh"
rm -f "$state/former.conf"

deb-systemd-helper unmask "$title.service" >/dev/null || true
if deb-systemd-helper --quiet was-enabled "$title.service"; then
  deb-systemd-helper enable "$title.service" >/dev/null || true
else
  deb-systemd-helper update-state "$title.service" >/dev/null || true
fi
restart || back "it does not start"
if [ "$1" = configure ] && running; then
  as_user health || back "it is not healthy after the update"
fi
"""

PRERM = """
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  deb-systemd-invoke stop "$title.service"
fi
"""

POSTRM = """
if [ "$1" = remove ] || [ "$1" = purge ]; then
  rm -rf "$state"
  rmdir --ignore-fail-on-non-empty /var/lib/edgevit 2>/dev/null || true
fi
case $1 in
  remove)
    if command -v deb-systemd-helper >/dev/null; then deb-systemd-helper mask "$title.service" >/dev/null || true; fi
    ;;
  purge)
    rm -rf "/var/cache/$title"
    if command -v deb-systemd-helper >/dev/null; then
      deb-systemd-helper purge "$title.service" >/dev/null || true
      deb-systemd-helper unmask "$title.service" >/dev/null || true
    fi
    ;;
esac
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
"""


def maintainer_scripts(application: Application) -> dict[str, str]:
    """Name to text of each."""
    words = {"TITLE": application.title, "NAME": application.name, "VERSION": application.version, "USER": USER}
    bodies = {"preinst": PREINST, "postinst": POSTINST, "prerm": PRERM, "postrm": POSTRM}
    return {name: filled(SHARED + body, words) for name, body in bodies.items()}
