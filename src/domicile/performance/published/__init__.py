"""What others measured and published, which the model is held against, each with its source."""
