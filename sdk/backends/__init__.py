"""Runtime backends: `registry` lists them by format, `base` is what each of them does."""
