"""Classes given as text, by the commands: built in, exchanged, listed; and features beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import edgevit as package
from edgevit.bundle import ENGINE, MODEL, REFERENCE, SAMPLES, Manifest, open_bundle, write_bundle
from edgevit.commands.classes import set_classes
from edgevit.engine.samples import load_samples
from edgevit.errors import BundleError, ConfigError
from edgevit.model import load_checkpoint
from edgevit.model.pixels import normalise
from edgevit.textclasses import TextSource, embeddings_bytes, read_embeddings, text_classes
from tests.support import Outcome
from tests.support import built as bundle_of

Edgevit = Callable[..., Outcome]
REAL = Path(__file__).parent.parent / "model" / "fixtures" / "real"
CLIP, SIGLIP = REAL / "huggingface_clip_tower", REAL / "open_clip_siglip_tower"
OWN = CLIP / "embeddings.npz"
"""Of crack, scratch and fine."""


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four other classes for the CLIP."""
    path = tmp_path_factory.mktemp("embeddings") / "others.npz"
    vectors = np.random.default_rng(5).normal(size=(4, 12))
    path.write_bytes(embeddings_bytes(text_classes(("wall", "door", "Öl", "glass"), vectors, path, prompts=("the {}",))))
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    """An INT8 bundle of the CLIP that gives its features, too."""
    options = {"texts": TextSource(embeddings=OWN)}
    return bundle_of(CLIP, tmp_path_factory.mktemp("built"), data=image_folder, features=True, options=options)


def test_the_manifest_knows_how_the_head_was_made(built: Path, edgevit: Edgevit) -> None:
    manifest = open_bundle(built).manifest
    assert manifest.text is not None
    assert manifest.text.scale == pytest.approx(np.exp(3.0))
    assert manifest.features == 12
    assert Manifest.from_json(manifest.to_json(), "here") == manifest
    assert edgevit("classes", built).stdout.split() == ["crack", "scratch", "fine"]
    shown = edgevit("inspect", built).stdout
    assert "given as text" in shown
    assert "features of length 1" in shown


def test_other_classes_are_what_the_model_makes_of_them(
    built: Path, others: Path, edgevit: Edgevit, image_folder: Path, tmp_path: Path
) -> None:
    """As torch does with the other embeddings; nothing else changes."""
    done = edgevit("classes", built, "--set", others, "-o", tmp_path / "new.edgevit")
    assert done.code == 0, done.stderr
    assert "4 classes: wall, door, Öl, glass" in done.stdout
    before, after = open_bundle(built), open_bundle(tmp_path / "new.edgevit")
    after.verify()
    assert after.manifest.labels == ("wall", "door", "Öl", "glass")
    assert after.manifest.accuracy is None
    assert after.manifest.text is not None
    assert after.manifest.text.prompts == ("the {}",)
    same = set(before.manifest.files) - {MODEL, REFERENCE, SAMPLES}
    assert same
    assert all(before.manifest.files[name] == after.manifest.files[name] for name in same)
    checkpoint = load_checkpoint(CLIP, texts=TextSource(embeddings=others))
    samples = load_samples(after.read(SAMPLES))
    with torch.inference_mode():
        frames = normalise(torch.from_numpy(samples.frames), checkpoint.preprocessing)
        wanted = checkpoint.model(frames).numpy()
    np.testing.assert_allclose(samples.logits, wanted, atol=1e-4)
    shown = edgevit("run", tmp_path / "new.edgevit", image_folder, "--headless", "--limit", 3, "--json")  # checks the engine, too
    assert shown.code == 0, shown.stderr
    assert json.loads(shown.stdout.splitlines()[0])["label"] in after.manifest.labels


def test_there_and_back_again(built: Path, others: Path, tmp_path: Path) -> None:
    """The graphs of the same classes are the same to the byte."""
    set_classes(built, others, out=tmp_path / "there")
    set_classes(tmp_path / "there", OWN, out=tmp_path / "back")
    for name in (MODEL, REFERENCE):
        assert open_bundle(tmp_path / "back").read(name) == open_bundle(built).read(name)


def test_a_zip_a_signature_and_an_engine(built: Path, others: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    """What held for the classes of before does not stay: a signature, and an engine that has them in it."""
    bundle = open_bundle(built)
    files = {name: bundle.read(name) for name in bundle.manifest.files} | {ENGINE: b"compiled"}
    write_bundle(tmp_path / "old.zip", bundle.manifest, files)
    assert edgevit("keygen", tmp_path / "key").code == 0
    assert edgevit("sign", tmp_path / "old.zip", "--key", tmp_path / "key").code == 0
    done = edgevit("classes", tmp_path / "old.zip", "--set", others, "-o", tmp_path / "new.zip")
    assert done.code == 0, done.stderr
    assert "sign it with edgevit sign" in done.stderr
    assert "edgevit compile" in done.stderr
    new = open_bundle(tmp_path / "new.zip")
    assert ENGINE not in new.manifest.files
    refused = edgevit("run", tmp_path / "new.zip", "test://", "--require-signature", tmp_path / "key.pub")
    assert refused.code == 5
    assert "not signed" in refused.stderr


def test_a_siglips_scores_are_independent(image_folder: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    done = edgevit("build", SIGLIP, "--text-embeddings", SIGLIP / "embeddings.npz", "--data", image_folder, "--precision", "fp32",
                   "-o", tmp_path / "s")  # fmt: skip
    assert done.code == 0, done.stderr
    assert open_bundle(tmp_path / "s").manifest.problem_type == "multi_label_classification"
    with package.load(tmp_path / "s") as classifier:
        found = classifier.classify(np.zeros((40, 40, 3), np.uint8))
        assert sum(each.confidence for each in found) != pytest.approx(1)
        with pytest.raises(ConfigError, match="gives no features"):
            classifier.features(np.zeros((40, 40, 3), np.uint8))
    one = tmp_path / "one.npz"
    one.write_bytes(embeddings_bytes(text_classes(("crack",), np.ones((1, 64)), one)))
    set_classes(tmp_path / "s", one, out=tmp_path / "one")  # one label that is there or not
    assert open_bundle(tmp_path / "one").manifest.labels == ("crack",)


def test_features_for_search(built: Path, image_folder: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    """Of every picture one vector of length 1, by name, the one that Python gives."""
    done = edgevit("run", built, image_folder, "--headless", "--features", tmp_path / "f.npz")
    assert done.code == 0, done.stderr
    with np.load(tmp_path / "f.npz") as stored:
        features, names, labels = stored["features"], stored["names"], stored["labels"]
    pictures = list(image_folder.rglob("*.png"))
    assert features.shape == (len(pictures), 12)
    assert len(names) == len(labels) == len(pictures)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    with package.load(built) as classifier:
        own = {path.name: classifier.features(path) for path in pictures[:3]}
    for name, wanted in own.items():
        matches = [features[i] for i, other in enumerate(names) if Path(str(other)).name == name]
        assert any(np.allclose(match, wanted, atol=1e-5) for match in matches)
    again = edgevit("run", built, image_folder, "--headless", "--limit", 2, "--features", tmp_path / "f.npz")
    assert again.code == 0  # its own kind is replaced
    assert edgevit("run", built, image_folder, "--headless", "--features", tmp_path / "f.txt").code == 2


def test_a_bundle_without_features(bundle_path: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    done = edgevit("run", bundle_path, "test://", "--headless", "--limit", 1, "--features", tmp_path / "f.npz")
    assert done.code == 2
    assert "edgevit build MODEL --features" in done.stderr


def test_trained_classes_stay(bundle_path: Path, others: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    done = edgevit("classes", bundle_path, "--set", others, "-o", tmp_path / "new")
    assert done.code == 5
    assert "were trained, not given as text" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("arguments", "code", "why"), [
    (["classes", "{built}", "-o", "new"], 2, "say which classes"),
    (["classes", "{built}", "--set", "{others}"], 2, "-o NEW"),
    (["classes", "{built}", "--set", "{others}", "-o", "new", "--prompt", "a {{}}"], 2, "--text-model makes"),
    (["classes", "{built}", "--set", "crack,wall", "-o", "new"], 2, "embeddings come as"),
    (["classes", "{built}", "--set", "none.npz", "-o", "new"], 2, "cannot be read as embeddings"),
    (["classes", "{built}", "--set", "{siglip}", "-o", "new"], 2, "its images have 12 numbers"),
    (["classes", "{built}", "--set", "crack", "--text-model", "{vit}", "-o", "new"], 3, "holds no text tower"),
    (["build", "{clip}", "--data", "{data}"], 3, "Give its classes as text"),
    (["build", "{clip}", "--data", "{data}", "--text-embeddings", "{others}", "--classes", "a,b"], 2, "leave --classes"),
    (["build", "{clip}", "--data", "{data}", "--prompt", "a {{}}"], 2, "say what to look for"),
    (["build", "{clip}", "--data", "{data}", "--text-embeddings", "{siglip}"], 3, "of another model"),
    (["build", "{vit}", "--data", "{data}", "--text-embeddings", "{others}"], 3, "cannot be given as text"),
    (["embed", "{vit}", "--classes", "a,b", "-o", "e.npz"], 3, "holds no text tower"),
    (["embed", "{clip}", "--classes", "a,b", "-o", "e.txt"], 2, "written as .npz"),
])  # fmt: skip
def test_what_does_not_go_together(
    arguments: list[str], code: int, why: str, built: Path, others: Path, checkpoint_path: Path, image_folder: Path,
    edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {"built": built, "others": others, "siglip": SIGLIP / "embeddings.npz", "clip": CLIP, "vit": checkpoint_path,
              "data": image_folder}  # fmt: skip
    done = edgevit(*(argument.format(**places) for argument in arguments))
    assert done.code == code, done.stderr
    assert why in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("edgevit: ")]
    assert not any(tmp_path.iterdir())


def test_samples_of_before_cannot_follow(built: Path, others: Path, tmp_path: Path) -> None:
    """A bundle whose samples were damaged, or written without features, is refused, not changed by half."""
    bundle = open_bundle(built)
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    with np.load(built / SAMPLES) as stored:
        kept = {name: stored[name] for name in stored.files if not name.endswith("features")}
    np.savez(tmp_path / "s.npz", **kept)
    write_bundle(tmp_path / "old", bundle.manifest, files | {SAMPLES: (tmp_path / "s.npz").read_bytes()})
    with pytest.raises(BundleError, match="hold no features"):
        set_classes(tmp_path / "old", others, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_pruned_tower_takes_other_classes(image_folder: Path, others: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    """What `prune` writes knows how its head was made."""
    small = tmp_path / "small.safetensors"
    done = edgevit("prune", CLIP, "--text-embeddings", OWN, "--data", image_folder, "--share", 0.2, "--multiple", 4, "-o", small)
    assert done.code == 0, done.stderr
    plain, changed = load_checkpoint(small), load_checkpoint(small, texts=TextSource(embeddings=others))
    assert plain.labels == ("crack", "scratch", "fine")
    assert changed.labels == ("wall", "door", "Öl", "glass")
    assert plain.text is not None
    torch.testing.assert_close(changed.model.head.weight, torch.from_numpy(read_embeddings(others).embeddings) * plain.text.scale)


def test_a_model_without_a_head_gives_its_features(image_folder: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    """In INT8, judged by their SQNR."""
    done = edgevit("build", CLIP, "--features", "--data", image_folder, "-o", tmp_path / "f", "--json")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["comparison"]["rows"][-1]["accuracy"]["sqnr_db"] > 15
    assert any("outputs are the 12 features" in note for note in open_bundle(tmp_path / "f").manifest.notes)
    picture = next(image_folder.rglob("*.png"))
    with package.load(tmp_path / "f") as found:
        np.testing.assert_allclose(found.logits(picture), found.features(picture), atol=1e-6)
