"""Images and what they are labelled with.

`dataset` is a set of them; `finding`, `reading`, `header` and `arrays` are its files; `classes`, `labelsheet` and `labelmatch`
are labels, and `missing_truth` says why they tell nothing; `datalevel` says when a folder is one level too high or low;
`pictures` takes what a caller may mean by an image.
"""
