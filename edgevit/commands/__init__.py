"""What the commands do: a file per verb, named as the command and holding its function; `edgevit.cli` parses, calls and prints.

Public functions take plain arguments, which `arguments` and `import_options` make values; what they return is in `VERB_result`.
`build` and `prune` have `build_arguments` (what goes with what), `build_request`, `build_inputs` (checkpoint and images),
`target_graph` (from a decision to the target's engine) and `plan` (its stages before it runs); `compare` has `compare_field` (all
models, on images that none was fitted to), `compare_request`, `compare_names`, `compare_checkpoint` and `compare_bundle`;
`compile` has `compile_choice`; `inspect` has `inspect_parts` and `inspect_diff`; `doctor --acceptance` is `acceptance`.
"""
