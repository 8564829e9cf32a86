"""Measuring, and showing what was measured. Knows engines and images, not torch.

Measured: `evaluate`, `accuracy`, `latency`, `startup`, `stages`, `energy`, put together by `compare`; `statistics` and
`recommend` judge. Read from a compiled TensorRT plan: `trtplan`, `preflight`, `roofline`, `device`. Shown: `table`, `html`,
`page`, `plots`. `attention` is the arithmetic of attention maps, `attention_picture` draws them.
"""
