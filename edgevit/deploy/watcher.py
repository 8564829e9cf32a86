"""Who is told how deployments go."""

from __future__ import annotations

from edgevit.deploy.destination import Destination


class Watcher:
    """Is told how a deployment goes; this one tells nobody."""

    def begin(self, host: Destination, step: str) -> None:
        """A step begins."""

    def progress(self, host: Destination, step: str, text: str) -> None:
        """What a step under way says."""

    def end(self, host: Destination, step: str, text: str, seconds: float) -> None:
        """A step is done."""

    def again(self, host: Destination, error: Exception, pause: float) -> None:
        """The link broke, and after ``pause`` seconds all goes on."""
