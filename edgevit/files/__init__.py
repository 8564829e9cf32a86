"""Files, read and written with care: nothing of a user's is lost, nothing waits or floods.

Read: `bounded` (regular files up to a size), `paths` (what is there), `recognition` (what a user's file is), `fromjson` (JSON as
objects of known types), `protobuf` (its wire format). Written: `writing` (whole or not at all), `own_kinds` (what may be
replaced), `clashes` (an output that is an input).
"""
