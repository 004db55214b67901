"""Post-training quantization, by format and precision: ``registry`` lists them."""
