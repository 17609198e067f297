"""SynerGen, one idea a file: tokens, the decoder, its losses, and the model of the benchmark made of them."""
