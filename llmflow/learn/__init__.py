"""Feature columns to scores: labels, data sets, training, evaluation, model files."""
