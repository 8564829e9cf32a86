"""INT8 and FP16 of a folded ViT, a file per method.

`statistics` of inputs, `ranges`, `smoothing` (how much scale goes into weights) and its search in `smoothing_search`, `gptq`,
`bias_correction`, `attention`, put together by `linears`; `fp16` makes a model fit FP16 and `fp16_check` looks whether it does;
`sensitivity` ranks parts, `accuracy_control` keeps a budget, `decide` says what every GEMM computes in. `variants` and `samples`
are the graphs and the frames that engines are checked with, `checked` both together. What may be moved where without changing the
function is in `edgevit.model.rewrites`.
"""
