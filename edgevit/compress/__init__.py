"""What makes a folded ViT smaller, step by step. Torch; no checkpoints, no images, no engines.

Quantization: `statistics` of inputs, `ranges`, `migrate` (scales moved into weights) and its search in `inputs`, `rounding`,
`correct` (biases), `attention`, put together by `quantize`; `sensitivity` ranks parts; `half` makes a model fit FP16.
Pruning: `gradients`, `halves`, `scores`, `moments`, `candidates`, `allocate`, then `refit` and `compensate`, `recover`
(distillation); `stream` keeps tokens in a temporary file, `stored` packs what the first pass found.
"""
