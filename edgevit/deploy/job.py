"""Work on a host that must outlive the link: it is started once, watched while there is a link, and collected later."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from edgevit.deploy.ssh import FULL, Ssh, disk_full
from edgevit.errors import RemoteError

EVERY = 1.0  # seconds between two looks
# A lock says that the job lives: its processes hold it, and whoever looks only has to try it. $1 is the job's folder.
_START = r"""
job=$1; shift
mkdir -p -- "$job" && cd -- "$job" || exit 1
[ "$(cat rc 2>/dev/null)" = 0 ] && exit 0
flock -n lock true || exit 0
rm -f rc begun
setsid sh -c '
  exec 9>lock; flock -n 9 || exit 0
  echo $$ >pid; : >begun
  "$@" >out 2>log </dev/null
  echo $? >rc.part; mv rc.part rc
' job "$@" >/dev/null 2>&1 </dev/null &
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -e begun ] && exit 0; sleep 0.2; done
echo "the job does not start"; exit 1
"""
_LOOK = r"""
cd -- "$1" || exit 1
held=no; flock -n lock true || held=yes
if [ -e rc ]; then echo "ended $(cat rc)"; elif [ $held = yes ]; then echo running; else echo died; fi
tail -n 1 log 2>/dev/null
"""
_COLLECT = r"""
cd -- "$1" && cat out
"""
_ENDED = r"""
[ "$(cat -- "$1/rc" 2>/dev/null)" = 0 ] && flock -n "$1/lock" true
"""
_SETTLE = r"""
cd -- "$1" 2>/dev/null || exit 0
slot=$2; shift 2
for job in *; do
  [ -d "$job" ] || continue
  for mine in "$@"; do [ "$job" != "$mine" ] || continue 2; done
  over=no; ! flock -n "$job/lock" true || over=yes
  case "$over $job" in
    "yes $slot-"* | "yes venv-"*) rm -rf -- "$job" ;;
    "no $slot-"*) kill -s KILL -- "-$(cat "$job/pid")"; echo "$job" ;;
    "no "*) echo "$job" ;;
  esac
done
"""
_COMPLAINT = r"""
cd -- "$1" || exit 1
if [ -s log ]; then tail -n 5 log; else tail -n 5 out; fi
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work. Two with the same folder are the same."""

    ssh: Ssh
    folder: str
    """On the host, absolute."""
    what: str
    """For messages: ``compile``."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.rpartition("/")[2]

    def run(self, *command: str, tell: Callable[[str], None] = lambda _: None) -> str:
        """Start ``command``, unless it runs or has ended well already, and wait: what it wrote to its output.

        ``tell`` gets the last line of its messages. Raises RemoteError with these if it fails, LinkError if the link breaks: the
        job goes on there, and `run` finds it next time.
        """
        started = self.ssh.run(_START, self.folder, *command)
        if started.code:
            msg = f"{self.ssh.host.address}: {self.what}: {started.last}"
            raise RemoteError(msg)
        while True:
            looked = self.ssh.run(_LOOK, self.folder, seconds=60)
            state, _, message = looked.out.partition("\n")
            if state == "ended 0":
                return self.ssh.run(_COLLECT, self.folder).out
            if state != "running":
                self._fail(state)
            tell(message.strip())
            time.sleep(EVERY)

    def ended(self) -> bool:
        """Whether it has ended well, and nobody has collected its result."""
        return self.ssh.run(_ENDED, self.folder).code == 0

    def forget(self) -> None:
        """Remove what it left, once that is brought home: the next run starts anew."""
        self.ssh.run('rm -rf -- "$1"', self.folder)

    def _fail(self, state: str) -> NoReturn:
        said = self.ssh.run(_COMPLAINT, self.folder)
        if FULL.search(said.out):
            raise disk_full(self.ssh.host)
        lines = [line.strip().removeprefix("edgevit: ") for line in said.out.splitlines() if line.strip()]
        how = "was killed, or the host went down" if state == "died" else f"failed ({state.partition(' ')[2]})"
        msg = f"{self.ssh.host.address}: {self.what} {how}: {lines[-1] if lines else 'it said nothing'}"
        raise RemoteError(msg)


def settle(ssh: Ssh, folder: str, slot: str, mine: Sequence[str], tell: Callable[[str], None]) -> None:
    """Make sure that nothing runs on the host, in ``folder`` of its jobs, but what is in ``mine``.

    What else has the name ``slot-...`` is of an older content of the same bundle: ended, and its results removed. Others are
    waited for: two at once would disturb one another's installation and measurements.
    """
    while running := ssh.run(_SETTLE, folder, slot, *mine).out.split():
        tell(f"waits for a job of another run: {running[0]}")
        time.sleep(EVERY)
