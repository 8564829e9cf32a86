"""One search over what makes a model faster: tokens, heads, hidden neurons and whole sublayers, by harm per time saved."""
