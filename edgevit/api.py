"""The Python interface: a bundle as an object that classifies."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from edgevit.bundle import Bundle, open_bundle
from edgevit.engine.of_bundle import session_of
from edgevit.errors import ConfigError, SourceError
from edgevit.images.pictures import Picture, frame_of
from edgevit.preprocess import prepare
from edgevit.problem import MULTI_LABEL
from edgevit.runtime.cameras import Asked, Sourcelike, cameras_of
from edgevit.runtime.classify import Prediction
from edgevit.runtime.classify import top_k as top_k_of
from edgevit.runtime.decide import Decider, Decision
from edgevit.runtime.loop import classify_cameras
from edgevit.runtime.opening import open_cameras
from edgevit.runtime.smoothing import parse_smoothing
from edgevit.runtime.source import open_source
from edgevit.runtime.threshold import thresholds_of
from edgevit.runtime.unknown import Watch, rate_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self


def load(
    path: str | Path, *, engine: str | None = None, threads: int | None = None, graph: bool = True, device: str | None = None,
    batch: int = 1,
) -> Classifier:  # fmt: skip
    """Open a bundle and load its model; use what it returns as a context manager.

    Args:
        path: a bundle, folder or zip. Its hashes are checked.
        engine: ``openvino``, ``onnxruntime`` or ``tensorrt``; the bundle's own by default.
        threads: CPU threads of the engine; all by default.
        graph: whether TensorRT may replay a CUDA graph, where that is faster. Of no meaning to CPU engines.
        device: of OpenVINO, ``CPU``, ``GPU``, ``GPU.1`` or ``NPU``.
        batch: frames an inference that `Classifier.run` gives the engine, of files; for GPUs.

    Raises:
        BundleError: the bundle is missing, damaged or tampered with.
        ConfigError: the bundle cannot have that engine, device or batch.
        EngineError: the engine cannot run here, or the bundle was not compiled for this device.
        MissingPackageError: the engine's package is not installed.
    """
    return Classifier(open_bundle(path), engine=engine, threads=threads, graph=graph, device=device, batch=batch)


class Classifier:
    """A loaded model with its preprocessing and its labels. Use it from one thread at a time."""

    def __init__(
        self, bundle: Bundle, *, engine: str | None = None, threads: int | None = None, graph: bool = True,
        device: str | None = None, batch: int = 1,
    ) -> None:  # fmt: skip
        """Load ``bundle``; see `load`."""
        self.bundle = bundle
        """``bundle.manifest`` has everything that is known about the model."""
        self._session = session_of(bundle, engine, threads=threads, graph=graph, device=device, batch=batch)
        self._known = bundle.known()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the logits."""
        return self.bundle.manifest.labels

    @property
    def engine(self) -> str:
        """Name and version of the engine, such as ``openvino 2026.4.1``."""
        return self._session.engine

    @property
    def device(self) -> str:
        """The processor that runs it."""
        return self._session.device

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the engine warned of when it was loaded."""
        return self._session.warnings

    def logits(self, image: Picture) -> NDArray[np.float32]:
        """The model's output for one image.

        Args:
            image: a path, a Pillow image, or an array uint8 [H, W, 3] BGR as OpenCV delivers it, [H, W, 4] BGRA or [H, W] gray,
                of any size; see `edgevit.images.pictures.frame_of`.

        Returns:
            float32 [classes].

        Raises:
            TypeError: something else.
            ValueError: an array of another shape or dtype.
            DataError: a file that is missing or no readable image.
            EngineError: inference failed, or this classifier is closed.
        """
        return self._session.infer(prepare(frame_of(image), self.bundle.manifest.preprocessing)[None])[0]

    def features(self, image: Picture) -> NDArray[np.float32]:
        """What the head sees of one image, for search and clustering: float32 [features]; of a CLIP or SigLIP of length 1.

        Takes and raises what `logits` does; ConfigError, too, for a bundle that was built without them.
        """
        if self.bundle.manifest.features is None:
            msg = f"{self.bundle.path}: gives no features. Build it with --features (features=True)."
            raise ConfigError(msg)
        self.logits(image)
        assert self._session.features is not None
        return self._session.features[0]

    def typicality(self, image: Picture) -> float:
        """How usual one image is among those that the bundle was built with: the share of them that is as far away or farther.

        Above 0 to 1; of images like those a share of 1 % is at most 0.01. Takes and raises what `logits` does; ConfigError, too,
        for a bundle that was built without ``unknown``.
        """
        if self._known is None:
            msg = f"{self.bundle.path}: does not tell what is unknown. Build it with --unknown (unknown=True)."
            raise ConfigError(msg)
        logits = self.logits(image)
        assert self._session.features is not None
        return Watch(self._known)(self._session.features[0], int(logits.argmax())).typicality

    @overload
    def classify(self, images: Picture, *, top_k: int = 5) -> tuple[Prediction, ...]: ...

    @overload
    def classify(self, images: list[Any] | tuple[Any, ...], *, top_k: int = 5) -> list[tuple[Prediction, ...]]: ...

    def classify(
        self, images: Picture | list[Any] | tuple[Any, ...], *, top_k: int = 5
    ) -> tuple[Prediction, ...] | list[tuple[Prediction, ...]]:
        """The ``top_k`` likeliest classes of an image, likeliest first; all if there are fewer.

        Of a multi-label model the confidences are independent of one another: from 0.5 on a label is taken to be there.

        Takes and raises what `logits` does; EngineError, too, if the output is not finite, and ValueError if ``top_k`` is not
        positive. A list or tuple of images, of any kinds, gives a list.
        """
        _check_top_k(top_k)
        if not isinstance(images, list | tuple):
            return self._classify(images, top_k)
        found = []
        for place, image in enumerate(images):
            try:
                found.append(self._classify(image, top_k))
            except (TypeError, ValueError) as error:
                msg = f"image {place} of the list: {error}"
                raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from error
        return found

    def _classify(self, image: Picture, k: int) -> tuple[Prediction, ...]:
        return top_k_of(self.logits(image), self.labels, k, self.bundle.manifest.problem_type)

    def run(
        self,
        source: Sourcelike | Sequence[Sourcelike] | Mapping[str, Sourcelike],
        *,
        loop: bool = False,
        limit: int | None = None,
        top_k: int = 5,
        smooth: str | None = None,
        threshold: float | Mapping[str, float] | None = None,
        unknown: float | str | None = None,
        roi: str | Mapping[str, str] | None = None,
    ) -> Generator[Decision, None, None]:
        """Classify the frames of a source, or of several in turns, as they are asked for.

        What is opened here is closed when the iteration ends, however it is left. A camera gives the newest frame each time; a
        file gives every frame. Of several sources, the one whose last turn is longest ago is next; one that ends or is lost
        leaves the others running.

        Args:
            source: what `edgevit run` takes: ``"0"``, a video, a folder, ``"test://"``; or an open `Source`, which stays open.
                Several as a list, or as a mapping from their names, which `Decision.camera` then tells.
            loop: start a file or folder over when it ends.
            limit: stop after so many frames of each source.
            top_k: predictions per frame.
            smooth: ``"ema:N"`` (or ``"N"``) or ``"majority:N"``: decide over N frames of a source.
            threshold: below this confidence, 0 to 1, the label is ``unknown``, and of a multi-label model it is not there (0.5
                if None). By label where it is a mapping; labels that it does not name have the default.
            unknown: of a bundle that was built with ``unknown``: what is unlike the images of its build is ``unknown``, and of
                what is like them at most this share, 0 to 1; ``"auto"`` is 0.01. `Decision.rarity` has the figures.
            roi: the part of the picture that is looked at, ``"X,Y,WIDTH,HEIGHT"`` in pixels or all in percent; a mapping from
                names where sources have their own.

        Yields:
            Decisions: ``best`` to act on, or all ``labels`` that are there, ``predictions``, the ``frame``, and what each stage
            took.

        Raises:
            SourceError: the source cannot be opened, or failed midway; of several, the first that did, when all are over.
            ConfigError: ``smooth`` is neither of those, ``threshold`` names a label that the model does not have, ``roi`` is no
                region of the picture, or ``unknown`` is a smaller share than the bundle's images tell, or of a bundle that tells
                none.
            EngineError: inference failed.
        """
        _check_top_k(top_k)
        kind = self.bundle.manifest.problem_type
        thresholds = thresholds_of(threshold, self.labels, kind)
        share = rate_of(unknown, self._known)

        def decider() -> Decider:
            smoothing = parse_smoothing(smooth, thresholds if kind == MULTI_LABEL else None) if smooth else None
            return Decider(
                smoothing=smoothing, threshold=thresholds, top_k=top_k, problem_type=kind, known=self._known, unknown=share
            )  # fmt: skip

        decider()  # what is wrong is said now, and not when the first frame is asked for
        return self._decisions(cameras_of(source, roi), loop, decider, limit)

    def _decisions(
        self, asked: Sequence[Asked], loop: bool, decider: Callable[[], Decider], limit: int | None
    ) -> Generator[Decision, None, None]:
        contract, labels, kind = self.bundle.manifest.preprocessing, self.labels, self.bundle.manifest.problem_type
        absent = list[SourceError]()
        with open_cameras(asked, partial(open_source, loop=loop), lambda _name, error: absent.append(error)) as cameras:
            deciders = {camera.name: decider() for camera in cameras}
            results = classify_cameras(
                cameras, self._session, contract, labels, top_k=decider().wanted, limit=limit, problem_type=kind
            )  # fmt: skip
            with closing(results):
                for result in results:
                    yield deciders[result.camera](result)
        if absent:
            raise absent[0]

    def close(self) -> None:
        """Free what the engine holds. Closing twice is harmless."""
        self._session.close()

    def __repr__(self) -> str:
        return f"Classifier({str(self.bundle.path)!r}, {len(self.labels)} labels, {self.engine} on {self.device})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _check_top_k(k: int) -> None:
    if k < 1:
        msg = f"expected top_k of at least 1, got {k}"
        raise ValueError(msg)
