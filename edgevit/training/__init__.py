"""From photos to a classifier: a linear head on the frozen features of a backbone, and how sure it is."""
