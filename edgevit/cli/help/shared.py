"""Groups of options, and arguments, that several commands share. A page may spread a group of which its command has some only."""

BUNDLE = "what edgevit build wrote: a folder or a .zip"
MODEL = (
    "a .safetensors, .pt, .pth or .onnx file, a Hugging Face or timm folder, hf:ORG/NAME or timm:NAME. See docs/checkpoints.md."
)
BOARD = "as ssh takes it: user@host, or a name of your ssh config. Or --hosts FILE."
SOURCE = (
    "0 for the first camera, test:// for none. Or /dev/video0, usb://0, csi://0, rtsp://HOST/PATH, http://HOST/PATH, "
    "gst:PIPELINE, a video, an image or a folder of images."
)
SOURCES = f"{SOURCE} Several take turns; NAME=SOURCE names one in all outputs."

Groups = dict[str, tuple[str, ...]]

CHECKPOINT: Groups = {
    "What the checkpoint does not tell": (
        "--weights", "--heads", "--image-size", "--activation", "--labels", "--problem-type", "--class-order",
    ),
    "Classes as text": ("--classes", "--prompt", "--text-embeddings", "--text-model"),
    "Preprocessing": ("--resize-mode", "--resize", "--interpolation", "--mean", "--std", "--color"),
}  # fmt: skip
PRUNING: Groups = {
    "Pruning and merging tokens": ("--prune", "--speedup", "--merge", "--recover", "--score", "--prune-images", "--multiple"),
}
CAMERA: Groups = {
    "Source": ("--loop", "--policy", "--size", "--fps", "--rotate", "--roi", "--stall", "--give-up"),
}
HOSTS: Groups = {"Hosts": ("--hosts", "--group", "--port", "--dir", "--ssh")}
MACHINE: Groups = {"Machine": ("--engine", "--threads", "--graph", "--device", "--no-cache")}
WORKERS: Groups = {"Workers": ("--executor", "--workers", "--worker-threads", "--ray-address")}
GENERAL: Groups = {"General": ("--require-signature", "--sign", "--dry-run", "--json", "--help")}
