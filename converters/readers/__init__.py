"""What is inside a model file, one reader a format: ``registry`` lists them, ``base`` says what a reader finds."""
