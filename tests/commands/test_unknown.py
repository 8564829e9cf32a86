"""Unknown objects from the build to the run: fitted to what the INT8 graph gives, kept in the bundle, told on the device."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgevit as package
from edgevit.bundle import KNOWN, open_bundle, write_bundle
from edgevit.errors import BundleError, ConfigError
from edgevit.known.fit import Seen, fit_known
from edgevit.textclasses import TextSource
from tests.support import Outcome, picture, write_images
from tests.support import built as bundle_of

Edgevit = Callable[..., Outcome]
REAL = Path(__file__).parent.parent / "model" / "fixtures" / "real"


@pytest.fixture(scope="module")
def built(checkpoint_path: Path, image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An INT8 bundle that tells unknown objects, by the 96 images of its build."""
    return bundle_of(checkpoint_path, tmp_path_factory.mktemp("unknown"), data=image_folder, features=True, unknown=True)


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures unlike any of the build: noise."""
    folder = tmp_path_factory.mktemp("strange")
    random = np.random.default_rng(0)
    for index in range(10):
        cv2.imwrite(str(folder / f"noise{index}.png"), random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return folder


def test_it_is_what_the_graph_of_the_bundle_gives(built: Path, image_folder: Path) -> None:
    """Fitted again here, from what the bundle's own session makes of the same images, in the order of the build."""
    bundle = open_bundle(built)
    assert bundle.manifest.known == {"images": 96, "judged": 96, "by_class": True}
    bundle.verify()
    features, classes = [], []
    with package.load(built, threads=1) as classifier:
        for path in sorted(image_folder.glob("*/*.png")):
            classes.append(int(classifier.logits(path).argmax()))
            features.append(classifier.features(path))
    expected = fit_known(Seen(features=np.stack(features), classes=np.array(classes)), 3)
    known = bundle.known()
    assert known is not None
    np.testing.assert_allclose(known.mean, expected.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(known.means, expected.means, rtol=1e-3, atol=1e-4)
    rows, seen = np.stack(features[::7]), np.array(classes[::7])
    np.testing.assert_allclose(known.distance(rows, seen), expected.distance(rows, seen), rtol=0.02, atol=0.02)


def test_run_calls_strange_pictures_unknown_and_usual_ones_not(
    built: Path, strange: Path, tmp_path: Path, edgevit: Edgevit
) -> None:
    usual = write_images(tmp_path / "usual", 10, first=5000)
    lines = edgevit("run", built, strange, "--headless", "--json", "--unknown", "5%").lines
    frames, summary = lines[:-1], lines[-1]["summary"]
    assert [line["label"] for line in frames].count("unknown") >= 9
    assert all(line["top_k"][0]["confidence"] for line in frames)
    assert summary["labels"]["unknown"] >= 9
    assert summary["typicality"]["median"] < 0.05
    lines = edgevit("run", built, usual, "--headless", "--json", "--unknown", "5%").lines
    assert [line["label"] for line in lines[:-1]].count("unknown") <= 4
    assert 0.2 < lines[-1]["summary"]["typicality"]["median"] < 0.9


def test_without_the_option_it_is_told_alone(built: Path, strange: Path, tmp_path: Path, edgevit: Edgevit) -> None:
    table = tmp_path / "table.csv"
    outcome = edgevit("run", built, strange, "--headless", "--csv", table)
    assert outcome.code == 0, outcome.stderr
    assert "unknown" not in outcome.stdout
    assert "typicality        median 0.0" in outcome.stdout
    assert table.read_text().splitlines()[0].endswith("latency_ms,typicality,distance")


def test_other_bundles_say_what_to_do(bundle_path: Path, strange: Path, edgevit: Edgevit) -> None:
    outcome = edgevit("run", bundle_path, strange, "--headless", "--unknown", "auto")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "Build it with: edgevit build MODEL --data DIR --unknown" in outcome.stderr
    with package.load(bundle_path, threads=1) as classifier, pytest.raises(ConfigError, match=r"Build it with --unknown"):
        classifier.typicality(picture("disc", 1))


def test_a_share_that_so_few_images_cannot_tell(built: Path, strange: Path, edgevit: Edgevit) -> None:
    outcome = edgevit("run", built, strange, "--headless", "--unknown", "0.1%")
    assert outcome.code == 2
    assert "judged by 96 images, of which the rarest is one in 97. Ask for 0.01 or more" in outcome.stderr


def test_from_python(built: Path, strange: Path) -> None:
    with package.load(built, threads=1) as classifier:
        assert classifier.typicality(strange / "noise0.png") <= 3 / 97
        assert np.median([classifier.typicality(picture(kind, 6000)) for kind in classifier.labels]) > 0.1
        with pytest.raises(ConfigError, match=r"--unknown 2.0: write auto"):
            next(classifier.run(strange, unknown=2.0))
        decisions = list(classifier.run(strange, unknown=0.05))
    assert [each.best.label for each in decisions].count("unknown") >= 9


def test_a_service_checks_it_at_once(built: Path, tmp_path: Path, edgevit: Edgevit) -> None:
    outcome = edgevit("service", built, "test://", "--user", "root", "-o", tmp_path / "a.service", "--", "--unknown", "0.1%")
    assert outcome.code == 2
    assert "Ask for 0.01 or more" in outcome.stderr


def test_inspect_tells_of_it(built: Path, bundle_path: Path, edgevit: Edgevit) -> None:
    text = " ".join(edgevit("inspect", built).stdout.split())
    assert "unknown objects told by 96 images, class by class" in text
    assert "unknown objects" not in edgevit("inspect", bundle_path).stdout


def test_separate_images_judge_it(checkpoint_path: Path, image_folder: Path, tmp_path: Path, edgevit: Edgevit) -> None:
    judges = write_images(tmp_path / "judges", 20, first=7000)
    arguments = (
        "build",
        checkpoint_path,
        "--data",
        image_folder,
        "--eval-data",
        judges,
        "--unknown",
        "-o",
        tmp_path / "b.edgevit",
    )
    planned = edgevit(*arguments, "--dry-run", "--json").json
    stage = next(stage for stage in planned if stage["name"] == "fit known images")
    assert stage["what"] == "features of 96 images, and how far 60 others are from them"
    outcome = edgevit(*arguments)
    assert outcome.code == 0, outcome.stderr
    assert open_bundle(tmp_path / "b.edgevit").manifest.known == {"images": 96, "judged": 60, "by_class": True}


@pytest.mark.parametrize(
    ("each", "options", "code", "message"),
    [
        (0, (), 4, "--unknown needs images of what is known: pass --data DIR"),
        (
            2,
            ("--precision", "fp32"),
            4,
            "6 images are too few to tell what is unusual: 20 at least. Give more images with --data",
        ),
    ],
)
def test_too_few_images(
    checkpoint_path: Path, tmp_path: Path, edgevit: Edgevit, each: int, options: tuple[str, ...], code: int, message: str
) -> None:
    data = ("--data", write_images(tmp_path / "few", each)) if each else ()
    outcome = edgevit("build", checkpoint_path, "--unknown", "-o", tmp_path / "b.edgevit", *data, *options)
    assert outcome.code == code, outcome.stderr
    assert message in outcome.stderr
    assert "check engine" not in outcome.stderr, "before anything slow is done"
    assert not (tmp_path / "b.edgevit").exists()


def test_an_fp32_bundle_tells_too(checkpoint_path: Path, image_folder: Path, strange: Path, tmp_path: Path) -> None:
    bundle = bundle_of(checkpoint_path, tmp_path, data=image_folder, precision="fp32", features=True, unknown=True)
    with package.load(bundle, threads=1) as classifier:
        assert classifier.typicality(strange / "noise0.png") < 0.05


def test_other_classes_leave_it_out(image_folder: Path, tmp_path: Path, edgevit: Edgevit) -> None:
    """It was by the classes that were there."""
    clip = REAL / "huggingface_clip_tower"
    options = {"texts": TextSource(embeddings=clip / "embeddings.npz")}
    bundle = bundle_of(clip, tmp_path, data=image_folder, features=True, unknown=True, options=options)
    assert open_bundle(bundle).manifest.known is not None
    outcome = edgevit("classes", bundle, "--set", clip / "embeddings.npz", "-o", tmp_path / "new.edgevit")
    assert outcome.code == 0, outcome.stderr
    written = open_bundle(tmp_path / "new.edgevit")
    assert written.manifest.known is None
    assert KNOWN not in written.manifest.files
    assert any(note.startswith("unknown objects: no longer told") for note in written.manifest.notes)
    written.verify()


@pytest.mark.parametrize("content", [b"", b"no archive", b"other"])
def test_a_bundle_with_another_file_in_its_place_is_refused(
    built: Path, tmp_path: Path, content: bytes, edgevit: Edgevit
) -> None:
    """By its hash, and where whoever packed it made a hash for it, by what it is."""
    bundle = open_bundle(built)
    if content == b"other":
        features = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
        content = fit_known(Seen(features=features, classes=np.zeros(30, np.int64)), 3).to_bytes()
    files = {name: bundle.raw(name) for name in bundle.manifest.files} | {KNOWN: content}
    forged = write_bundle(tmp_path / "forged.edgevit", bundle.manifest, files)
    with pytest.raises(BundleError, match=r"known\.npz is not this bundle's"):
        forged.verify()
    outcome = edgevit("run", forged.path, "test://", "--headless", "--limit", 1)
    assert (outcome.code, outcome.stdout) == (5, ""), outcome.stderr
    assert "known.npz is not this bundle's" in outcome.stderr
    shutil.copytree(built, tmp_path / "copy.edgevit")
    (tmp_path / "copy.edgevit" / KNOWN).write_bytes(content)
    with pytest.raises(BundleError, match=r"known\.npz is not the file that was built"):
        open_bundle(tmp_path / "copy.edgevit").known()


def test_manifests_of_before_are_read(bundle_path: Path) -> None:
    manifest = open_bundle(bundle_path).manifest
    assert "known" not in json.loads(manifest.to_json())
    assert open_bundle(bundle_path).known() is None
