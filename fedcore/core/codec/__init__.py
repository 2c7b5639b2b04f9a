"""Updates as bytes and back: number formats, sparsification, entropy coding, containers, error feedback."""
