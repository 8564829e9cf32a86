"""Commands as documentation shows them, and what is at hand in the place of what a test has not: a hub, a camera, a board."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

CLIP = ROOT / "tests" / "model" / "fixtures" / "real" / "huggingface_clip_tower"
CAMERA = "test://64x64@30?frames=8"
ANY_VIT = (
    "facebook/dinov2-small", "google/vit-base-patch16-224", "hf:facebook/dinov2-small@main", "my-model/",
    "timm:vit_small_patch16_224.augreg_in21k_ft_in1k",
)  # fmt: skip
"""Names that stand for any ViT."""
NOT_RUN = "# not run here: "
"""Behind a command: that no test runs it, and why."""


@dataclass(frozen=True)
class Typed:
    """A line of a block of shell commands."""

    line: str
    not_run: str
    """Why it is not run; empty where it is."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables that are set in front of the command."""
        return dict(word.split("=", 1) for word in self.words[: self._at])

    @property
    def words(self) -> list[str]:
        """As a shell splits it, without what stands behind ``#``."""
        return shlex.split(self.line, comments=True)

    @property
    def arguments(self) -> list[str]:
        """What ``edgevit`` is given."""
        return self.words[self._at + 1 :]

    @property
    def is_edgevit(self) -> bool:
        """Whether that is the program."""
        return len(self.words) > self._at and self.words[self._at] == "edgevit"

    @property
    def _at(self) -> int:
        return next((i for i, word in enumerate(self.words) if not re.match(r"[A-Z_]+=", word)), len(self.words))


def typed(text: str) -> list[Typed]:
    """All lines of the shell blocks of a page."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines() if line.strip()]
    return [Typed(line.partition(NOT_RUN)[0].strip(), line.partition(NOT_RUN)[2].strip()) for line in lines]


def at_hand(arguments: list[str], checkpoint: Path, camera: str = CAMERA) -> list[str]:
    """``arguments`` of edgevit with a small model, embeddings that are there, and ``camera``."""
    found = list(arguments)
    if found[0] == "build" and "--classes" in found:
        at = found.index("--classes")
        found[at : at + 4] = ["--text-embeddings", str(CLIP / "embeddings.npz")]
        found[1] = str(CLIP)
    found = [str(checkpoint) if word in ANY_VIT else word for word in found]
    if found[0] in ("run", "collect"):
        found = [camera if word == "0" else word for word in found]
    if found[0] == "service":  # tests may be root's, and a camera does not need root
        found[1:1] = ["--user", "nobody"]
    found = [re.sub(r"^(127\.0\.0\.1|0\.0\.0\.0):\d+$", "127.0.0.1:0", word) for word in found]
    return [*found, "--headless"] if found[0] == "run" and "--headless" not in found else found
