"""The trained part of the chain: the prompt reweighter, its objectives and its training [S3POT 3.3]."""
