"""Pruning end to end: what is asked for is removed, what it costs is small, and what cannot be is refused in a line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgevit.bundle import REPORT, open_bundle
from edgevit.cache import Cache
from edgevit.commands import prune as shrinking
from edgevit.commands.build_inputs import read_inputs, spare_images
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.steps import Prune, Search
from edgevit.errors import ConfigError, DataError
from edgevit.export.variants import fp32_variant
from edgevit.images.dataset import ImageSet, load_images
from edgevit.measure.evaluator import Evaluator
from edgevit.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgevit.model.folded import forward
from edgevit.model.macs import macs
from edgevit.model.rewrites.folding import fold
from edgevit.model.vit import Vit
from edgevit.part import Sublayer
from edgevit.problem import MULTI_LABEL
from edgevit.progress import Progress, Stage
from edgevit.pruning import compensation
from edgevit.pruning.costs import Costs, macs_only
from edgevit.pruning.first_pass import score
from edgevit.pruning.layer_times import estimated, measured
from edgevit.pruning.second_pass import Pruned, prune
from edgevit.pruning.settings import SCORES, PruneSettings
from edgevit.pruning.shapes import cut_vit_config
from edgevit.recipe import load_recipe
from edgevit.search.settings import SearchSettings
from edgevit.target import load_target
from edgevit.vitconfig import BlockConfig
from edgevit.workbench import Workbench
from tests.support import CLASSES, Outcome, write_images


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This processor on ONNX Runtime, which compiles tiny models in a tenth of OpenVINO's time; one test has `cpu` as shipped."""
    path = tmp_path_factory.mktemp("target") / "cpu.toml"
    keys = ('description = "this CPU"', 'precisions = ["fp32", "int8"]', 'family = "cpu"', "multiple = 16")
    path.write_text("\n".join((*keys, '[engine]\ndefault = "onnxruntime"\n')))
    return path


@pytest.fixture(scope="module")
def options(image_folder: Path, target: Path) -> tuple[object, ...]:
    return ("--data", image_folder, "--target", target)


def settings(**changes: object) -> PruneSettings:
    return PruneSettings(**({"share": 0.3, "multiple": 4} | changes))


def run(checkpoint: Checkpoint, images: ImageSet, **changes: object) -> Pruned:
    asked = settings(**changes)
    scored = score(checkpoint, images, asked, Workbench())
    return prune(scored, scored.cuts(asked.share), Workbench())


def change(checkpoint: Checkpoint, model: Vit, images: ImageSet) -> float:
    """Mean squared change of the logits, over their variance."""
    frames = torch.from_numpy(np.concatenate(list(images.prepared(checkpoint.preprocessing))))
    wanted = forward(fold(checkpoint.model, checkpoint.preprocessing), frames)
    got = forward(fold(model, checkpoint.preprocessing), frames)
    return float((got - wanted).square().mean() / wanted.var())


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_as_much_as_asked_for_is_gone(checkpoint: Checkpoint, images: ImageSet, share: float) -> None:
    pruned = run(checkpoint, images, share=share)
    assert share <= pruned.share < share + 0.1
    assert pruned.macs == macs(pruned.model.config)
    assert pruned.macs_before == macs(checkpoint.model.config)
    for block, report in zip(pruned.model.config.blocks, pruned.sublayers[1::2], strict=True):
        assert block.hidden == report.after
        assert block.hidden % 4 == 0


def test_sublayers_before_the_first_cut_are_only_run(
    checkpoint: Checkpoint, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in them is refitted; that would find nothing but rounding."""
    scored = score(checkpoint, images, settings(score="variance"), Workbench())
    cuts = [offered[0].cut for offered in scored.candidates]
    cuts[3] = scored.candidates[3][1].cut
    found = prune(scored, cuts, Workbench())
    assert [item.after < item.before for item in found.sublayers].index(True) == 3
    monkeypatch.setattr(compensation, "_first_changed", lambda *_: 0)
    slow = prune(scored, cuts, Workbench())
    assert [item.refit for item in found.sublayers[:3]] == ["none"] * 3
    for item, other in zip(found.sublayers, slow.sublayers, strict=True):
        assert (item.error, item.error_before) == pytest.approx((other.error, other.error_before), rel=1e-6, abs=1e-9)
    for key, value in found.model.state_dict().items():
        torch.testing.assert_close(value, slow.model.state_dict()[key], rtol=1e-3, atol=1e-5)


def test_what_is_gone_is_made_up_for(checkpoint: Checkpoint, images: ImageSet, tmp_path: Path) -> None:
    """On images that nothing was fitted to. A bias alone does less, and nothing less still, where all three begin alike: in the
    first sublayer that loses something. Behind it a bias may add up to more than it takes away."""
    others = load_images(write_images(tmp_path / "others", 16, first=500))
    found = {name: run(checkpoint, images, share=0.4, compensation=name) for name in ("ridge", "bias", "none")}
    left = {name: change(checkpoint, pruned.model, others) for name, pruned in found.items()}
    assert left["ridge"] < 0.5 * min(left["bias"], left["none"])
    first = {name: next(item.error for item in pruned.sublayers if item.after < item.before) for name, pruned in found.items()}
    assert first["ridge"] < first["bias"] < first["none"]


def test_the_same_seed_gives_the_same_model(checkpoint: Checkpoint, images: ImageSet) -> None:
    first, second = (run(checkpoint, images).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", SCORES)
def test_every_score_prunes(checkpoint: Checkpoint, images: ImageSet, name: str) -> None:
    pruned = run(checkpoint, images, score=name)
    assert pruned.share >= 0.3
    assert change(checkpoint, pruned.model, images) < 1


def test_scores_disagree(checkpoint: Checkpoint, images: ImageSet) -> None:
    """Else one of them is not what its name says."""
    kept = {name: tuple(tuple(candidate.cut.kept.tolist()) for candidate in score(checkpoint, images, settings(score=name),
            Workbench()).candidates[1]) for name in SCORES}  # fmt: skip
    assert len(set(kept.values())) == len(SCORES)


def test_sublayers_go_where_little_is_lost(checkpoint: Checkpoint, images: ImageSet, tmp_path: Path) -> None:
    """An attention and an MLP that add nothing but a constant are what goes first, whole."""
    model = Vit(checkpoint.model.config)
    model.load_state_dict(checkpoint.model.state_dict())
    with torch.no_grad():
        for writer in (model.blocks[0].proj, model.blocks[0].fc2):
            writer.weight.mul_(1e-4)
    useless = replace(checkpoint, model=model.eval())
    scored = score(useless, images, settings(share=0.4), Workbench())
    cuts = scored.cuts(0.4)
    assert len(cuts[0].kept) <= 1
    assert len(cuts[1].kept) <= 16
    config = cut_vit_config(model.config, cuts)
    assert macs(config) <= 0.6 * macs(model.config)
    pruned = prune(scored, cuts, Workbench())
    assert pruned.model.config == replace(config, layer_scale=False)
    assert change(useless, pruned.model, images) < 0.02


def test_a_pruned_checkpoint_is_one_like_any_other(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    """Written, read, pruned again, built, and run."""
    once, twice, bundle = tmp_path / "einmal ü.safetensors", tmp_path / "twice.safetensors", tmp_path / "out.edgevit"
    options = ("--data", image_folder, "--multiple", 8)
    first = edgevit("prune", checkpoint_path, *options, "--prune", "0.3", "-o", once, "--json")
    assert first.code == 0, first.stderr
    report = json.loads(first.stdout)
    assert report["pruning"]["share"] >= 0.3
    rows = report["comparison"]["rows"]
    assert [row["precision"] for row in rows] == ["fp32", "fp32-pruned"]
    assert rows[1]["accuracy"]["top1"] >= rows[0]["accuracy"]["top1"] - 0.25
    assert rows[1]["bytes"] < rows[0]["bytes"]
    assert edgevit("prune", once, *options, "--prune", "0.1", "-o", twice).code == 0
    assert macs(load_checkpoint(twice).model.config) < macs(load_checkpoint(once).model.config)
    assert edgevit("build", once, "--data", image_folder, "-o", bundle).code == 0
    assert edgevit("run", bundle, image_folder, "--limit", 2, "--headless").code == 0


def test_build_prunes_and_says_what_each_step_cost(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, options: tuple, tmp_path: Path
) -> None:
    command = ("build", checkpoint_path, *options, "--prune", "0.3", "-o", tmp_path / "out.edgevit")
    planned = edgevit(*command, "--dry-run")
    assert "30 % of the MACs" in planned.stdout
    done = edgevit(*command, "--multiple", 8)
    assert done.code == 0, done.stderr
    bundle = open_bundle(tmp_path / "out.edgevit")
    assert list(bundle.manifest.accuracy) == ["fp32", "fp32-pruned", "int8", "conditions"]
    report = json.loads(bundle.read(REPORT))
    assert report["pruning"]["share"] >= 0.3
    assert len(report["pruning"]["halves"]) == 4
    assert bundle.manifest.provenance["pruning"]["settings"]["share"] == 0.3
    assert "% of the MACs removed" in done.stderr
    # All images that pruning saw are known, so that no comparison measures on them.
    assert len(bundle.manifest.provenance["calibration_images"]) >= 64
    hidden = [block["hidden"] for block in bundle.manifest.model["blocks"]]
    assert sum(hidden) + 16 * sum(block["heads"] for block in bundle.manifest.model["blocks"]) < 2 * 64 + 16 * 4


def test_auto_stays_within_the_budget(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, target: Path, options: tuple, tmp_path: Path
) -> None:
    more = write_images(tmp_path / "more", 32, first=900)
    out = tmp_path / "auto.safetensors"
    done = edgevit("prune", checkpoint_path, *options, "--eval-data", more, "--multiple", 8,
                   "--prune", "auto", "--max-drop", 5, "-o", out, "--json")  # fmt: skip
    assert done.code == 0, done.stderr
    search = json.loads(done.stdout)["pruning"]["search"]
    within = [item["share"] for item in search["tries"] if item["drop"] <= 5]
    assert 1 - 1 / json.loads(done.stdout)["pruning"]["speedup"] >= max(within) - 0.03  # arithmetic counts a little, too
    assert search["metric"] == "top-1"
    # The model in the file, measured anew on the images that the search measured on.
    request = BuildRequest(
        model=checkpoint_path, target=load_target(str(target)), recipe=load_recipe("default"), out=out, data=image_folder,
        eval_data=more, max_drop=5, smaller=(Search(SearchSettings(auto=True, multiple=8)),),
    )  # fmt: skip
    inputs, spare = spare_images(request, read_inputs(request, Progress()))
    evaluator = Evaluator(inputs.checkpoint, spare, Workbench(threads=1, measured_on="onnxruntime"))
    assert search["images"] == len(spare)
    assert evaluator.drop(fp32_variant(load_checkpoint(out), "onnxruntime").model) == pytest.approx(
        search["drop"], abs=100 / len(spare)
    )
    assert search["drop"] <= 5


def test_one_budget_for_pruning_and_int8(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, options: tuple, tmp_path: Path
) -> None:
    more = write_images(tmp_path / "more", 32, first=900)
    done = edgevit("build", checkpoint_path, *options, "--eval-data", more, "--multiple", 8,
                   "--prune", "auto", "--max-drop", 6, "-o", tmp_path / "out.edgevit")  # fmt: skip
    assert done.code == 0, done.stderr
    report = json.loads(open_bundle(tmp_path / "out.edgevit").read(REPORT))
    assert report["pruning"]["search"]["max_drop"] == 3  # half of it
    assert report["search"]["max_drop"] == 6
    assert report["search"]["drop"] <= 6


def test_a_budget_that_cannot_be_kept(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, options: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "drop", lambda *_: 50.0)
    out = tmp_path / "out.safetensors"
    done = edgevit("prune", checkpoint_path, *options, "--multiple", 8, "--prune", "auto", "--max-drop", 1, "-o", out)
    assert done.code == 10
    assert "loses 50.00 points" in done.stderr
    assert not out.exists()


def test_recovery_learns_and_resumes(checkpoint: Checkpoint, images: ImageSet, tmp_path: Path) -> None:
    from edgevit.pruning.distillation import RecoverSettings
    from edgevit.pruning.recover import recover

    student = run(checkpoint, images, share=0.5, compensation="bias").model
    before = {key: value.clone() for key, value in student.state_dict().items()}
    asked = RecoverSettings(epochs=8, rate=1e-3)
    done = recover(student, checkpoint, images, asked, Workbench())
    whole = done.model
    assert done.kept
    assert done.after < done.before
    assert change(checkpoint, whole, images) < 0.5 * change(checkpoint, student, images)
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())

    class Interrupted(Progress):
        steps = 0

        def advance(self, stage: object, steps: int) -> None:
            self.steps += steps
            if self.steps > 2.2 * len(images):
                raise KeyboardInterrupt

    cache = Cache(root=tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        recover(student, checkpoint, images, asked, Workbench(cache=cache, progress=Interrupted()))
    resumed = recover(student, checkpoint, images, asked, Workbench(cache=cache)).model
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in whole.state_dict().items())
    labelled = recover(student, checkpoint, images, replace(asked, labels=0.5), Workbench()).model
    assert any(not torch.equal(value, labelled.state_dict()[key]) for key, value in whole.state_dict().items())


def test_recovery_of_several_labels(checkpoint: Checkpoint, images: ImageSet) -> None:
    """The loss is of sigmoids: a common shift of the logits, which a softmax does not see, is unlearned."""
    from edgevit.pruning.distillation import RecoverSettings
    from edgevit.pruning.recover import recover

    several, student = replace(checkpoint, problem_type=MULTI_LABEL), copy.deepcopy(checkpoint.model)
    with torch.no_grad():
        student.head.bias += 2
    asked = RecoverSettings(epochs=8, rate=3e-3)
    done = recover(student, several, images, asked, Workbench())
    assert done.kept
    assert done.before > 0.5
    assert done.after < 0.7 * done.before
    assert recover(student, checkpoint, images, replace(asked, epochs=1), Workbench()).before < 1e-6
    truth = np.eye(3, dtype=bool)[np.asarray(images.targets)]
    marked = replace(images, targets=None, marks=truth)
    labelled = recover(student, several, marked, replace(asked, labels=0.5), Workbench()).model
    plain = done.model.state_dict()
    assert any(not torch.equal(value, plain[key]) for key, value in labelled.state_dict().items())


def test_taylor_of_several_labels_takes_each_label_s_own_loss(checkpoint: Checkpoint, images: ImageSet) -> None:
    """Gradient times activation, against a finite difference of the binary cross entropy in one channel."""
    from edgevit.model.pixels import normalise
    from edgevit.pruning.gradients import contributions

    some = images.subset([0, 40, 80])
    truth = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1]], bool)
    batches = list(some.prepared(checkpoint.preprocessing, 3))
    model, contract = checkpoint.model, checkpoint.preprocessing
    found = contributions(model, contract, batches, truth, lambda _: None, MULTI_LABEL)[Sublayer(1, "mlp")]

    def loss(scale: float) -> torch.Tensor:
        def scaled(_module: object, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
            x = inputs[0].double().float().clone()
            x[..., 5] *= scale
            return (x,)

        hook = model.blocks[1].fc2.register_forward_pre_hook(scaled)  # type: ignore[union-attr]
        try:
            with torch.no_grad():
                logits = model(normalise(torch.from_numpy(batches[0]), contract)).double()
        finally:
            hook.remove()
        return F.binary_cross_entropy_with_logits(logits, torch.from_numpy(truth).double(), reduction="none").sum(1)

    slope = (loss(1.05) - loss(0.95)) / 0.1
    assert found[:, 5].double() == pytest.approx(slope.numpy(), rel=0.05, abs=1e-4)


def test_training_that_does_not_help_is_left(checkpoint: Checkpoint, images: ImageSet) -> None:
    """The student is its teacher: any step leads away."""
    from edgevit.pruning.distillation import RecoverSettings
    from edgevit.pruning.recover import recover

    asked = RecoverSettings(epochs=1, rate=0.1)
    done = recover(checkpoint.model, checkpoint, images, asked, Workbench())
    assert not done.kept
    state = checkpoint.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in done.model.state_dict().items())


def test_prune_with_recovery_by_command(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, options: tuple, tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    done = edgevit("prune", checkpoint_path, *options, "--multiple", 8, "--prune", 0.4, "--recover", 1, "-o", out)
    assert done.code == 0, done.stderr
    assert "recover" in done.stderr
    again = edgevit("prune", checkpoint_path, *options, "--multiple", 8, "--prune", 0.4, "--recover", 1, "-o", out)
    assert "cached" in again.stderr


def test_costs_of_layers(checkpoint: Checkpoint, tmp_path: Path) -> None:
    config = checkpoint.model.config
    arithmetic = macs_only(config)
    assert arithmetic.total(config) == pytest.approx(macs(config), rel=1e-3)
    half = BlockConfig(heads=2, hidden=32)
    assert arithmetic.sublayer(config, 0, "mlp", half) == pytest.approx(
        0.5 * arithmetic.sublayer(config, 0, "mlp", config.blocks[0])
    )
    bench = Workbench(target=load_target("cpu").on("onnxruntime"), threads=1, cache=Cache(root=tmp_path))
    timed = measured(config, "int8", bench)
    assert isinstance(timed, Costs)
    assert list(timed.mlp.values()) == sorted(timed.mlp.values())
    assert "onnxruntime" in timed.source
    assert measured(config, "int8", bench) == timed


def test_without_a_builder_a_board_is_weighed_by_arithmetic(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgevit.errors import MissingPackageError

    def missing(_engine: str) -> str:
        msg = "no builder"
        raise MissingPackageError(msg)

    monkeypatch.setattr("edgevit.engine.tensorrt.builder_version", missing)
    board = load_target("jetson-orin-nano-8gb")
    found = estimated(checkpoint.model.config, board, "int8", Workbench())
    assert found == macs_only(checkpoint.model.config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"share": 0.0}, "above 0"),
        ({"share": 1.0}, "at most 0.9"),
        ({"share": float("nan")}, "above 0"),
        ({"multiple": 0}, "at least 1"),
        ({"score": "osb"}, "Did you mean 'obs'"),
        ({"recover": -1}, "at least 0"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(**changes)


def test_a_multiple_that_leaves_nothing_to_choose(checkpoint: Checkpoint, images: ImageSet) -> None:
    with pytest.raises(ConfigError, match="widest MLP has 64 neurons"):
        score(checkpoint, images, settings(multiple=64), Workbench())


def test_more_than_there_is(checkpoint: Checkpoint, images: ImageSet) -> None:
    """Patches and head stay: they are a good part of this tiny model."""
    scored = score(checkpoint, images, settings(), Workbench())
    with pytest.raises(ConfigError, match=r"99\.9 % of the MACs is more than can be pruned"):
        scored.cuts(0.999)


def test_too_few_images(checkpoint: Checkpoint, images: ImageSet) -> None:
    with pytest.raises(ConfigError, match="--prune-images 7: it takes 8 at least"):
        score(checkpoint, images, settings(images=7), Workbench())
    with pytest.raises(DataError, match="7 images"):
        score(checkpoint, images.subset(range(7)), settings(), Workbench())
    few = score(checkpoint, images.subset(range(8)), settings(), Workbench())
    assert prune(few, few.cuts(0.3), Workbench()).share >= 0.3


def test_taylor_needs_labels(checkpoint: Checkpoint, images: ImageSet) -> None:
    flat = replace(images, class_names=(), targets=None)
    with pytest.raises(DataError, match="needs labels"):
        score(checkpoint, flat, settings(score="taylor"), Workbench())


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "Say how much"),
        (("--prune", "much"), 2, "is no share"),
        (("--prune", "0.3", "--speedup", "2"), 2, "in one way"),
        (("--prune", "0.3", "--max-drop", "1"), 2, "nothing to choose"),
        (("--prune", "2"), 2, "Did you mean 2%?"),
        (("--prune", "0.95"), 2, "at most 0.9"),
        (("--recover", "2"), 2, "ay how much"),
        (("--prune", "0.3", "--data", "/nowhere"), 4, "does not exist"),
        (("--prune", "0.3", "-o", "/proc/x.safetensors"), 9, "cannot write"),
        (("--prune", "0.3", "-o", "x.onnx"), 2, ".safetensors"),
        (("--prune", "0.3", "-o", "README.safetensors"), 9, "is no checkpoint that edgevit wrote"),
    ],
)
def test_commands_that_make_no_sense(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: int, said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("README.safetensors").write_text("of someone else")
    done = edgevit("prune", checkpoint_path, "--data", image_folder, "--multiple", 8, *options)
    assert done.code == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_run_leaves_no_file(checkpoint_path: Path, image_folder: Path, target: Path, tmp_path: Path) -> None:
    class Interrupted(Progress):
        def begin(self, stage: object) -> None:
            if getattr(stage, "name", "") == "prune and refit":
                raise KeyboardInterrupt

    request = BuildRequest(
        model=checkpoint_path, target=load_target(str(target)), recipe=load_recipe("default"), out=tmp_path / "out.safetensors",
        data=image_folder, smaller=(Prune(settings(multiple=8)),), threads=1,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        shrinking.prune_checkpoint(request, Cache(), Interrupted())
    assert not list(tmp_path.glob("*.safetensors*"))


def test_a_header_of_unlucky_length_is_no_pickle(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """The length of a safetensors header, in its first byte, may be 0x80, with which pickles begin."""
    for padding in range(300):
        labels = tuple(f"{name}{'x' * padding}" for name in CLASSES)
        path = tmp_path / "model.safetensors"
        save_checkpoint(checkpoint.model, path, preprocessing=checkpoint.preprocessing, labels=labels)
        if path.read_bytes()[0] == 0x80:
            assert load_checkpoint(path).labels == labels
            return
    pytest.fail("no such header was made")


def test_streams_and_batches_do_not_change_the_result(
    checkpoint: Checkpoint, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch size bounds memory; which images are held out may differ, what is cut hardly."""
    monkeypatch.setattr("edgevit.pruning.first_pass.BATCH", 2)
    one = run(checkpoint, images)
    monkeypatch.setattr("edgevit.pruning.first_pass.BATCH", 4)
    assert abs(change(checkpoint, one.model, images) - change(checkpoint, run(checkpoint, images).model, images)) < 0.05


@pytest.mark.parametrize("name", ["maps and biases", "little left of the last block", "one block", "no norm in blocks", "gray",
                                  "merging in pruned blocks", "merging beside prefix tokens"])  # fmt: skip
def test_models_of_every_kind(name: str, images: ImageSet) -> None:
    """What was pruned before stays as it is; the rest is pruned further."""
    from tests.zoo import ZOO, contract, vit

    model = vit(**ZOO[name])
    labels = tuple(map(str, range(model.config.classes)))
    odd = Checkpoint(
        model=model, preprocessing=contract(model.config), labels=labels, family="edgevit", notes=(), digest=name
    )  # fmt: skip
    pruned = run(odd, images, share=0.1)
    assert pruned.share >= 0.1
    before = model.config.blocks
    for old, new in zip(before, pruned.model.config.blocks, strict=True):
        assert new.heads <= old.heads
        assert new.hidden <= old.hidden
        assert old.heads or old.attention_map == new.attention_map
        assert old.hidden or old.mlp_map == new.mlp_map


def test_the_first_pass_is_run_once(checkpoint: Checkpoint, images: ImageSet, tmp_path: Path) -> None:
    """Another share finds what every sublayer could be cut to, to the bit; another score does not."""
    cache = Cache(root=tmp_path / "cache")
    stages: list[tuple[str, bool]] = []

    class Noted(Progress):
        def end(self, stage: Stage) -> None:
            stages.append((stage.name, stage.cached))

    first = score(checkpoint, images, settings(share=0.2), Workbench(cache=cache, progress=Noted()))
    again = score(checkpoint, images, settings(share=0.3), Workbench(cache=cache, progress=Noted()))
    assert stages == [("gradients", False), ("score", False), ("score", True)]
    for one, other in zip(first.candidates, again.candidates, strict=True):
        assert [(item.harm, item.cut.left) for item in one] == [(item.harm, item.cut.left) for item in other]
        assert all(torch.equal(a.cut.kept, b.cut.kept) for a, b in zip(one, other, strict=True))
    for mine, theirs in zip(first.influences, again.influences, strict=True):
        assert torch.equal(mine.tokens, theirs.tokens)
        assert torch.equal(mine.channels, theirs.channels)
    score(checkpoint, images, settings(share=0.3, score="variance"), Workbench(cache=cache, progress=Noted()))
    assert stages[-1] == ("score", False)
