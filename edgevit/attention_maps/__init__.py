"""Where a model looks: `maps` is the arithmetic of attention weights, `picture` draws them, `probe` takes them out of a graph."""
