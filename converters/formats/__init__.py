"""Export formats, by name: ``registry`` lists them, ``base`` says what an exporter is."""
