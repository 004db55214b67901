"""From teachers to a student: kd (KD-Loss)."""
