"""Which frames of a source are worth keeping, and where they are kept.

`look` measures a frame, `difference` compares two, `sharp` and `earlier` are the filters that remember, `chooser` puts them in
order; `passing` is a source of the frames that pass, `unsure` what a model thinks of them. `album` is the folder; `keymap`,
`terminal` and `window` are classes by key press.
"""
