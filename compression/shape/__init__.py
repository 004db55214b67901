"""Statistics of face shapes: asm (mean, eigenvectors, soft landmarks)."""
