"""Rewrites of a ViT that change no output: what may be moved where. A file for each, and which are legal in `legal`.

`folding` moves preprocessing, scales and the values' bias into weights, for every block, and `unfolding` makes a trainable model
of the result again. The others are a block's to admit: `migration` centres and scales the input of a GEMM through what delivers
it, `scores` rescales queries and keys and drops what softmax does not see, `stream` divides the residual stream.

Exact is meant over the real numbers; tests hold each in float64. None chooses its own figures: how much to migrate, and whether
a rewrite is worth while, is up to `edgevit.quantize`.
"""
