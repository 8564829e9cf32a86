"""Measuring, and judging what was measured. Knows engines and images; of torch, `evaluator` alone.

Measured: `evaluate`, `accuracy`, `multilabel`, `labels`, `latency`, `startup`, `stages`, `energy`, `machine`, put together by
`compare` into the rows of `comparison`. Judged: `statistics`, `suspicions`, `doubt`, `recommend`; `details` explains.
"""
