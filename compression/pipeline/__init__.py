"""The stages of ``pocketface compress``, each kept under a key of what it depends on."""
