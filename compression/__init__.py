"""pocketface.compression: from a recipe and annotated faces to a verified bundle."""
