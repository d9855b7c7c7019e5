"""How long the kernels take on an H200, from their machine code: `make predict`, and README.md here."""
