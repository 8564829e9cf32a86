"""Pictures of the documentation, all made of one real run: ``make screenshots``. Some minutes; needs Chromium and the extra dev.

``python docs/screenshots/make.py [FOLDER]``: in FOLDER, by default a temporary one, `edgevit demo` is run if it was not; then
notebook, report, attention picture and live page are made and photographed. Pictures go to docs/assets, none over 300 kB; what
the notebook showed goes into it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import tour

if TYPE_CHECKING:
    from tests.preview.browser import Page

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "docs" / "assets"
NOTEBOOK = ROOT / "docs" / "tutorial" / "first-steps.ipynb"
LARGEST = 300_000  # bytes of a picture
PORT = 8765

BUNDLE = "edgevit-demo/digits.edgevit"
IMAGES = "edgevit-demo/digits/test"
VIDEO = "edgevit-demo/digits/test.mp4"
"""What the demo leaves, from its folder."""
CHECKPOINT, TRAINED_ON, UNPRUNED = "edgevit-demo/digits.safetensors", "edgevit-demo/digits/train", "mine.edgevit"
SLOW = "slow.mp4"
"""The same for the live page: each picture for four seconds, so that a photograph shows one and its label."""


def edgevit(*arguments: str) -> list[str]:
    """The words that run a command with this checkout."""
    return [sys.executable, "-c", "from edgevit.cli import main; main(prog_name='edgevit')", *arguments]


def run(folder: Path, *arguments: str) -> None:
    """Run a command of edgevit in ``folder``."""
    print("$ edgevit", *arguments, flush=True)
    subprocess.run(edgevit(*arguments), cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)


def environment() -> dict[str, str]:
    """Of this checkout, wherever it is run."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def typed(page: Page, folder: Path) -> list[Any]:
    """The terminal part of the tour: build, compare, run, with what they really print."""
    tour.terminal(page, folder)
    frames = []
    for words in (
        ["build", CHECKPOINT, "--data", TRAINED_ON, "-o", UNPRUNED],
        ["compare", BUNDLE, "--data", IMAGES, "--runs", "60"],
    ):
        frames += tour.scene(page, f"edgevit {' '.join(words)}", tour.said(edgevit(*words), folder, environment()))
    return [
        *frames,
        *tour.scene(page, f"edgevit run {BUNDLE} 0 --serve 127.0.0.1:{PORT}", [f"note: preview: http://127.0.0.1:{PORT}/"]),
    ]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A run whose page is at the address that is given; ended afterwards."""
    words = ("run", BUNDLE, SLOW, "--loop", "--headless", "--policy", "latest", "--serve", f"127.0.0.1:{PORT}")
    with subprocess.Popen(edgevit(*words), cwd=folder, env=environment(), stdout=subprocess.DEVNULL) as process:
        try:
            time.sleep(20)  # so that its history is filled
            yield f"http://127.0.0.1:{PORT}/"
        finally:
            process.terminate()


def keep(picture: bytes, name: str) -> None:
    """Write a PNG as docs/assets/NAME.webp."""
    from PIL import Image

    write(name, [Image.open(BytesIO(picture)).convert("RGB")])


def write(name: str, frames: Sequence[object], milliseconds: int = 100, quality: int = 82) -> None:
    """Write a picture, or several as an animation."""
    first, *others = frames
    target = ASSETS / f"{name}.webp"
    more = {"save_all": True, "append_images": others, "duration": milliseconds, "loop": 0} if others else {}
    first.save(target, quality=quality, method=6, **more)  # type: ignore[attr-defined]
    size = target.stat().st_size
    print(f"{target.relative_to(ROOT)}  {size / 1000:.0f} kB")
    if size > LARGEST:
        msg = f"{target}: {size} bytes, more than {LARGEST}. Make it smaller."
        raise SystemExit(msg)


def animate(video: Path, name: str, *, every: int = 5, most: int = 40, width: int = 320) -> None:
    """Frames of an annotated video as an animation that runs anywhere."""
    import cv2
    from PIL import Image

    frames: list[Image.Image] = []
    capture, number = cv2.VideoCapture(str(video)), 0
    while len(frames) < most:
        good, frame = capture.read()
        if not good:
            break
        if number % every == 0:
            small = cv2.resize(frame, (width, frame.shape[0] * width // frame.shape[1]), interpolation=cv2.INTER_AREA)
            frames.append(Image.fromarray(small[..., ::-1]))
        number += 1
    write(name, frames, milliseconds=500)


def slow_down(video: Path, slow: Path, *, every: int = 5, seconds: int = 4, most: int = 12) -> None:
    """Write a video of 30 frames a second in which pictures of ``video`` stand for ``seconds``."""
    import cv2

    capture = cv2.VideoCapture(str(video))
    size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    writer = cv2.VideoWriter(str(slow), cv2.VideoWriter.fourcc(*"mp4v"), 30, size)
    for number in range(every * most):
        good, frame = capture.read()
        if good and number % every == 0:
            for _ in range(30 * seconds):
                writer.write(frame)
    writer.release()


def notebook(folder: Path) -> None:
    """Run the notebook where the demo's results are, and keep what it shows."""
    import nbformat
    from nbclient import NotebookClient

    print(NOTEBOOK.relative_to(ROOT), flush=True)
    os.environ["PYTHONPATH"] = str(ROOT)
    book = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in book.cells:
        cell.metadata = nbformat.from_dict({})  # when it ran is of no interest, and differs every time
    book.metadata.language_info = nbformat.from_dict({"name": "python"})
    NOTEBOOK.write_text(EMBEDDED.sub(lighter, nbformat.writes(book)) + "\n", encoding="utf-8")


EMBEDDED = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


def lighter(found: re.Match[str]) -> str:
    """A picture within HTML as WebP: a tenth of the bytes."""
    from PIL import Image

    small = BytesIO()
    Image.open(BytesIO(b64decode(found[1]))).convert("RGB").save(small, "webp", quality=82, method=6)
    return f"data:image/webp;base64,{b64encode(small.getvalue()).decode()}"


def files(folder: Path) -> None:
    """Everything that is made without a browser."""
    if not (folder / BUNDLE).exists():
        run(folder, "demo")
    image = str(sorted((folder / IMAGES).glob("*/*.png"))[0])
    engines = ("--engines", "openvino,onnxruntime", "--runs", "60")
    run(folder, "build", CHECKPOINT, "--data", TRAINED_ON, "-o", UNPRUNED)
    run(folder, "compare", BUNDLE, "--data", IMAGES, *engines, "--html", "report.html")
    run(folder, "attention", UNPRUNED, image, "-o", "attention.png")
    run(folder, "run", BUNDLE, VIDEO, "--headless", "--save", "annotated.mp4")
    notebook(folder)
    keep((folder / "attention.png").read_bytes(), "attention")
    animate(folder / "annotated.mp4", "video")
    slow_down(folder / VIDEO, folder / SLOW)


def photographs(folder: Path) -> None:
    """What is seen in a browser."""
    sys.path.insert(0, str(ROOT))
    from tests.preview.browser import browser

    def photograph(
        page: Page, address: str, name: str, *, width: int, height: int, seconds: float = 1, phone: bool = False
    ) -> None:
        page.screen(width, height, dark=phone, phone=phone)
        page.open(address)
        page.wait("document.readyState === 'complete'")
        time.sleep(seconds)
        keep(page.screenshot(), name)

    with TemporaryDirectory(prefix="edgevit-profile") as profile, browser(Path(profile)) as page:
        photograph(page, (folder / "report.html").as_uri(), "report", width=1100, height=1000)
        scenes = typed(page, folder)
        with served(folder) as address:
            write("tour", [*scenes, *tour.live(page, address)], milliseconds=700, quality=55)
            photograph(page, address, "page", width=1100, height=820, seconds=5)
            photograph(page, address, "page-phone", width=390, height=844, seconds=5, phone=True)


def main() -> None:
    """Make all of them."""
    with TemporaryDirectory(prefix="edgevit-shots") as place:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else place).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        files(folder)
        photographs(folder)


if __name__ == "__main__":
    main()
