"""Showing what was measured: `table`, `html` with its `page` and `plots`. Nothing here measures."""
