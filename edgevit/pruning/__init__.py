"""Structured pruning without training: fewer heads, fewer hidden neurons, fewer halves, made up for in closed form.

`score`: one pass over calibration images finds what every half of a block could be cut to and the harm of it, and an
allocation over all halves, by `costs`, decides what goes, least harm per saved time first. `cut`: a second pass runs the
model and what is left of it side by side and refits, in network order, every layer that writes to the residual stream.
`recovery`: a few epochs of distillation, if asked for. `goal` puts them together for a share, a speed-up or a budget.
"""
