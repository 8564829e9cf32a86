"""A ViT back out of an ONNX graph: the graph is walked with symbols for what depends on the image, and blocks are told by what
they compute, never by names. What comes of it is proved against ONNX Runtime before anybody gets it.

`file` reads and bounds, `refuse` says what is no float ViT, `walk` computes with symbols (`values`, by the rules beside it),
`recognise` tells blocks and their weights, `proof` compares, and `read` has the order of it all.
"""
