"""The Python interface on the tiny model, with real pictures."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgevit
from edgevit.errors import BundleError, ConfigError, DataError, EngineError, SourceError
from edgevit.images.pictures import frame_of
from edgevit.runtime.source import open_source
from tests.support import CLASSES, ROOT, picture


@pytest.fixture(scope="module")
def classifier(bundle_path: Path):
    with edgevit.load(bundle_path, threads=1) as classifier:
        yield classifier


def test_classify(classifier) -> None:
    right = 0
    for kind in CLASSES:
        for seed in range(2000, 2010):
            predictions = classifier.classify(picture(kind, seed))
            assert [each.confidence for each in predictions] == sorted((each.confidence for each in predictions), reverse=True)
            assert sum(each.confidence for each in predictions) == pytest.approx(1, abs=1e-5)
            assert all(classifier.labels[each.index] == each.label for each in predictions)
            right += predictions[0].label == kind
    assert right >= 20
    assert len(classifier.classify(picture("disc", 1), top_k=1)) == 1


def test_logits_are_what_classify_reads(classifier) -> None:
    logits = classifier.logits(picture("disc", 1))
    assert (logits.shape, logits.dtype) == ((3,), np.float32)
    assert classifier.classify(picture("disc", 1))[0].index == logits.argmax()


@pytest.mark.parametrize("change", ["as it is", "gray", "bgra", "not contiguous"])
def test_frames_of_every_form(classifier, change: str) -> None:
    image = picture("stripes", 5)
    forms = {"gray": cv2.COLOR_BGR2GRAY, "bgra": cv2.COLOR_BGR2BGRA}
    given = cv2.cvtColor(image, forms[change]) if change in forms else image[:, ::-1] if "not" in change else image
    before = given.copy()
    assert classifier.classify(given)[0].label in CLASSES
    assert (given == before).all(), "the caller's frame is not changed"


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8)],
)
def test_other_frames_are_refused(classifier, frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a"):
        classifier.classify(frame)


class FakePillow:
    """Does what a Pillow image does, as far as it is asked."""

    def __init__(self, rgb: np.ndarray, orientation: int | None = None, mode: str = "RGB") -> None:
        self.rgb, self.mode, self.tags = rgb, mode, {} if orientation is None else {0x0112: orientation}

    def convert(self, mode: str) -> np.ndarray:
        assert mode == "RGB"
        return self.rgb

    def getexif(self) -> dict[int, int]:
        return self.tags


def test_paths_and_pillow_images(classifier, tmp_path: Path) -> None:
    image = picture("stripes", 5)
    path = tmp_path / "größe.png"
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    wanted = classifier.classify(image)
    for given in (path, str(path), FakePillow(image[..., ::-1])):
        assert classifier.classify(given) == wanted
        assert (classifier.logits(given) == classifier.logits(image)).all()
    assert classifier.classify([path, image, FakePillow(image[..., ::-1])]) == [wanted] * 3
    assert classifier.classify((image,), top_k=1) == [wanted[:1]]
    assert classifier.classify([]) == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow_images_are_turned_upright(orientation: int) -> None:
    """By the EXIF standard: where row 0 and column 0 of what is stored are to be seen (CIPA DC-008, table of tag 274)."""
    rows, columns = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    stored = np.zeros((4, 6, 3), np.uint8)
    stored[0, :, 0] += 100  # row 0
    stored[:, 0, 1] += 100  # column 0
    seen = frame_of(FakePillow(stored, orientation))[..., ::-1]
    side = {"top": np.s_[0], "bottom": np.s_[-1], "left": np.s_[:, 0], "right": np.s_[:, -1]}
    assert (seen[side[rows]][..., 0] == 100).all()
    assert (seen[side[columns]][..., 1] == 100).all()
    assert (seen[..., 0].sum(), seen[..., 1].sum()) == (600, 400)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, "got None (cv2.imread gives"),
        (b"x", "got bytes"),
        (3, "got int"),
        ([["a.png"]], "image 0 of the list: expected a path, a Pillow image or a uint8 array, got list"),
        (["gone", 3.5], "image 1 of the list: .*got float"),
        (np.uint8(3), "got numpy.uint8"),
    ],
)
def test_what_is_no_image_is_a_type_error(classifier, given: object, wanted: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").write_bytes(cv2.imencode(".png", picture("disc", 1))[1].tobytes())
    with pytest.raises(TypeError, match=wanted.replace("(", r"\(")) as caught:
        classifier.classify(given)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_an_image_is_said(classifier, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png"):
        classifier.classify(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="image 1 of the list: expected a uint8 frame, got float32"):
        classifier.classify([picture("disc", 1), np.zeros((4, 4, 3), np.float32)])
    with pytest.raises(ValueError, match=r"expected a frame .* got \[2, 40, 40, 3\]"):
        classifier.classify(np.stack([picture("disc", 1)] * 2))
    with pytest.raises(ValueError, match="mode 'I;16' has more than 8 bits"):
        classifier.classify(FakePillow(np.zeros((4, 4, 3), np.uint8), mode="I;16"))


def test_reprs_are_one_short_line(classifier, image_folder: Path) -> None:
    (decision,) = classifier.run(image_folder, limit=1)
    for each in (classifier, classifier.bundle, decision, decision.frame, decision.best):
        assert re.fullmatch(rf"{type(each).__name__}\(.*\)", repr(each))
        assert len(repr(each)) < 200 + len(str(classifier.bundle.path))
        assert "array" not in repr(each)
    assert repr(decision.frame) == "Frame('disc/000.png', 0, 40x40)"
    assert re.fullmatch(r"Prediction\('\w+', 0\.\d{3}\)", repr(decision.best))


def test_dir_is_what_is_public() -> None:
    verbs = ["attention", "build", "collect", "compare", "inspect", "load", "prune", "sweep", "train"]
    assert dir(edgevit) == ["Classifier", "__version__", *verbs]


def test_thresholds_of_single_labels(classifier, image_folder: Path) -> None:
    plain = list(classifier.run(image_folder))
    strict = list(classifier.run(image_folder, threshold={"disc": 1.0}))
    assert {each.best.label for each in plain} == set(CLASSES)
    assert [each.best.label for each in strict] == [
        "unknown" if each.best.label == "disc" else each.best.label for each in plain
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="no label of this model is 'disk'"):
        classifier.run(image_folder, threshold={"disk": 0.5})


def test_facts(classifier, bundle_path: Path) -> None:
    assert classifier.labels == CLASSES
    assert classifier.engine.startswith(classifier.bundle.manifest.engine)
    assert classifier.device
    assert isinstance(classifier.warnings, tuple)


def test_run_on_a_folder(classifier, image_folder: Path) -> None:
    decisions = list(classifier.run(image_folder, top_k=2))
    assert len(decisions) == 96
    assert sum(each.best.label == each.frame.name.partition("/")[0] for each in decisions) > 80
    assert all(len(each.predictions) == 2 for each in decisions)
    assert [each.frame.index for each in decisions] == list(range(96))


def test_run_agrees_with_classify(classifier, image_folder: Path) -> None:
    for decision in classifier.run(str(image_folder), limit=5):
        assert decision.predictions == classifier.classify(decision.frame.image_bgr)


def test_run_smooths_and_says_unknown(classifier) -> None:
    plain = list(classifier.run("test://64x64?frames=6"))
    smooth = list(classifier.run("test://64x64?frames=6", smooth="ema:3", threshold=1.0))
    assert [each.raw for each in smooth] == [each.predictions for each in plain]
    assert {each.best.label for each in smooth} == {"unknown"}
    want = np.mean([[1, 2]], axis=0)  # weights of the first two frames: 1/2 and 1
    second = {each.label: each.confidence for each in smooth[1].predictions}
    for label in CLASSES:
        a, b = ({p.label: p.confidence for p in each.raw}[label] for each in smooth[:2])
        assert second[label] == pytest.approx((want[0] * a + want[1] * b) / 3)


def test_run_is_left_early_and_begun_again(classifier) -> None:
    """A camera-like source, whose thread ends with the iteration."""
    for _ in range(2):
        for decision in classifier.run("test://64x64@100"):
            if decision.frame.index > 2:
                break


def test_run_leaves_an_open_source_open(classifier, image_folder: Path) -> None:
    with open_source(str(image_folder)) as source:
        assert len(list(classifier.run(source, limit=3))) == 3
        assert len(list(classifier.run(source))) == 96


def test_loop(classifier, image_folder: Path) -> None:
    assert len(list(classifier.run(image_folder / "disc", loop=True, limit=70))) == 70


def test_several_sources_take_turns_and_are_told_apart(classifier, image_folder: Path) -> None:
    with open_source(str(image_folder)) as folder:
        given = {"folder": folder, "pattern": "test://64x64?frames=5"}
        found = list(classifier.run(given, limit=7, smooth="ema:3", roi={"pattern": "0%,0%,50%,50%"}))
        assert len(list(classifier.run(folder))) == 96, "what was open stays open"
    counts = Counter(decision.camera for decision in found)
    assert counts == {"folder": 7, "pattern": 5}
    assert all((decision.frame.region is not None) == (decision.camera == "pattern") for decision in found)
    alone = [decision.best for decision in classifier.run("test://64x64?frames=5", smooth="ema:3", roi="0%,0%,50%,50%")]
    assert [decision.best for decision in found if decision.camera == "pattern"] == alone
    unnamed = classifier.run(["test://32x32?frames=1", "b=test://32x32?frames=1"])
    assert {decision.camera for decision in unnamed} == {"camera1", "b"}


def test_source_that_is_gone_is_raised_when_the_others_are_over(classifier) -> None:
    results = classifier.run({"gone": "gone.mp4", "there": "test://32x32?frames=3"})
    assert [next(results).camera for _ in range(3)] == ["there"] * 3
    with pytest.raises(SourceError, match=r"gone\.mp4"):
        next(results)


def test_wrong_names_and_regions_are_said_at_once(classifier) -> None:
    for source, roi, told in (
        ({"a b": "test://"}, None, "'a b' is no name"), ([], None, "there is none"), (["a=0", "a=1"], None, "two sources"),
        ("test://", "1,2", "no region"), ("test://", {"a": "1,2,3,4"}, "no source is called 'a'"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            classifier.run(source, roi=roi)


def test_batches_of_a_folder(bundle_path: Path, classifier, image_folder: Path) -> None:
    with edgevit.load(bundle_path, threads=1, batch=4, device="CPU") as batches:
        found = [decision.best for decision in batches.run(image_folder, limit=6)]
        with pytest.raises(ConfigError, match="is live"):
            next(batches.run("test://64x64@10"))
    assert [each.label for each in found] == [decision.best.label for decision in classifier.run(image_folder, limit=6)]


def test_wrong_arguments_are_said_at_once(classifier) -> None:
    with pytest.raises(ValueError, match="top_k of at least 1, got 0"):
        classifier.run("test://", top_k=0)
    with pytest.raises(ValueError, match="top_k of at least 1"):
        classifier.classify(picture("disc", 1), top_k=0)
    with pytest.raises(ConfigError, match="is no smoothing"):
        classifier.run("test://", smooth="median:3")
    with pytest.raises(SourceError, match="no such file"):
        next(classifier.run("gone.mp4"))


def test_closed_classifier_says_so(bundle_path: Path) -> None:
    with edgevit.load(bundle_path) as classifier:
        pass
    classifier.close()
    with pytest.raises(EngineError, match="closed"):
        classifier.classify(picture("disc", 1))


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        edgevit.load(tmp_path / "gone.edgevit")


def test_unknown_engine(bundle_path: Path) -> None:
    with pytest.raises(ConfigError):
        edgevit.load(bundle_path, engine="warp")


def test_package_has_what_it_lists_and_nothing_else() -> None:
    assert all(getattr(edgevit, name) for name in edgevit.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = edgevit.nothing


def test_types_are_known_to_checkers(tmp_path: Path) -> None:
    """As a user's program sees them."""
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    lines = (
        "reveal_type(edgevit.build('m/', data='d/').rows)",
        "with edgevit.load('x') as c:",
        "    reveal_type(c)",
        "    for d in c.run('0'):",
        "        reveal_type(d.best)",
    )
    program.write_text("\n".join(("import edgevit", *lines, "")))
    config = tmp_path / "mypy.ini"  # what torch's own types are takes long, and none of ours rests on it
    config.write_text("[mypy]\nfollow_imports = silent\nignore_missing_imports = True\n[mypy-torch.*]\nfollow_imports = skip\n")
    outcome = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache", "--config-file", config, program],
        cwd=Path(edgevit.__file__).parents[1], capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert 'Revealed type is "list[dict[str, Any]]"' in outcome.stdout.replace("builtins.", ""), outcome.stdout
    assert 'Revealed type is "edgevit.api.Classifier"' in outcome.stdout, outcome.stdout
    assert 'Revealed type is "edgevit.runtime.classify.Prediction"' in outcome.stdout


def test_documented_programs_run(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/python.md has them, on the tiny bundle; only the camera is another."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells.edgevit").symlink_to(bundle_path)
    (tmp_path / "cell.png").write_bytes(cv2.imencode(".png", picture("disc", 1))[1].tobytes())
    writer = cv2.VideoWriter("cells.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for seed in range(5):
        writer.write(cv2.resize(picture("disc", seed), (64, 48)))
    writer.release()
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)
    running = [block for block in blocks if "edgevit.load" in block]
    assert len(running) == 2
    for block in running:
        exec(block.replace('run("0"', 'run("test://64x64?frames=4"'), {})
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 6
