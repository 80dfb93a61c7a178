"""Training of the embedded models: face parser, nano SAM, reference generator [design 6, 7]."""
