"""What each family's own pipeline feeds a model where no settings lie beside the weights.

All are written as the fields of transformers' ``preprocessor_config.json``. Those of transformers are the defaults of its
image processors (5.24); fields that a settings file leaves out, or gives as null, have these values in transformers, too.
"""

from __future__ import annotations

from typing import Any

from edgevit.preprocess import IMAGENET_MEAN, IMAGENET_STD

HALF = (0.5, 0.5, 0.5)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BILINEAR, BICUBIC = 2, 3  # PIL's numbers

_COMMON: dict[str, Any] = {
    "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": HALF, "image_std": HALF,
    "do_center_crop": False, "default_to_square": True,
}  # fmt: skip
_CLIP = {**_COMMON, "size": {"shortest_edge": 224}, "resample": BICUBIC, "do_center_crop": True, "crop_size": 224,
         "image_mean": CLIP_MEAN, "image_std": CLIP_STD, "default_to_square": False}  # fmt: skip
_IMAGENET = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}

# transformers' image processors that do nothing but resize, crop, rescale and normalise.
PROCESSORS: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {**_COMMON, "size": 224, "resample": BILINEAR},
    "DeiTImageProcessor": {**_COMMON, "size": 256, "resample": BICUBIC, "do_center_crop": True, "crop_size": 224},
    "BitImageProcessor": _CLIP,
    "CLIPImageProcessor": _CLIP,
    "SiglipImageProcessor": {**_COMMON, "size": {"height": 224, "width": 224}, "resample": BICUBIC, "default_to_square": False},
    "BeitImageProcessor": {**_COMMON, "size": 224, "resample": BICUBIC, "crop_size": 224},
    "DINOv3ViTImageProcessor": {**_COMMON, **_IMAGENET, "size": 224, "resample": BILINEAR},
    "PvtImageProcessor": {**_COMMON, **_IMAGENET, "size": 224, "resample": BICUBIC},
}

# Sources that keep no settings beside the weights: what is assumed, and what the source's own evaluation does.
PIPELINES: dict[str, tuple[dict[str, Any], str]] = {
    "timm": ({**_COMMON, **_IMAGENET, "resample": BICUBIC},
             "timm goes by the model's name: many vit_* have mean and std 0.5 and crop 0.9 of the frame"),
    "torchvision": ({**_COMMON, **_IMAGENET, "resample": BILINEAR},
                    "torchvision's own evaluation resizes the short side to 256 and crops 224"),
    "dinov2": ({**_COMMON, **_IMAGENET, "resample": BICUBIC},
               "DINOv2's own evaluation resizes the short side to 256 and crops 224"),
    "dinov3": ({**_COMMON, **_IMAGENET, "resample": BILINEAR},
               "DINOv3's own transform resizes to a square of 224 or 256, with other values for satellite images"),
    "": ({**_COMMON, **_IMAGENET, "resample": BILINEAR}, ""),
}  # fmt: skip
