"""Finding occluded faces for a new data set: by asking a vision-language model, or by our own score [S3POT §4]."""
