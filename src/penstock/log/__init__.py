"""Where events live, and how far each group has come. `base` is the contract; the files beside it are the choices."""
