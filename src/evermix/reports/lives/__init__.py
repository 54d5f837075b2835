"""Reports of lives: a model's stages one after the other, by every arm and in every order."""
