"""What the commands do: a file per verb, named as the command; `edgevit.cli` parses, calls and prints.

`build` has `build_inputs` (checkpoint and images), `target_graph` (from a decision to the target's engine) and `plan` (its stages
before it runs); `compare` has `compare_request`, `compare_names`, `compare_checkpoint` and `compare_bundle`; `compile` has
`compile_choice`; `inspect` has `inspect_diff`; `doctor --acceptance` is `acceptance`.
"""
