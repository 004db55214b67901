"""Statistics of face shapes: asm (mean, eigenvectors, soft landmarks), pose (head pose from a learnt 3D face),
weak_perspective (its cameras), pose_check (how far it is from the truth)."""
