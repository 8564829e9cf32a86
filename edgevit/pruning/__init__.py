"""Structured pruning without training: fewer heads, fewer hidden neurons, fewer sublayers, made up for in closed form.

`first_pass` over calibration images finds what every sublayer of a block could be cut to and the harm of it (`gradients`,
`sublayers`, `scores`, `moments`, `candidates`; kept in a `candidate_file`), and an `allocation` over all of them, by `costs`,
decides what goes, least harm per saved time first. `second_pass` runs the model and what is left of it side by side and refits
(`refit`, `compensation`), in network order, every layer that writes to the residual stream. `recover`: a few epochs of
`distillation`, if asked for. `make` puts them together, `to_share` for a share of the arithmetic; `edgevit.search` for a speed-up
or a budget.
"""
